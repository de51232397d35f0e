//! See `quorate_tests::decoders::carried`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = quorate_tests::decoders::carried(bytes);
});
