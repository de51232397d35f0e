//! See `quorate_tests::decoders::message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = quorate_tests::decoders::message(bytes);
});
