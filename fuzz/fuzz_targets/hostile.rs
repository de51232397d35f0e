//! See `quorate_tests::hostile::hostile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = quorate_tests::hostile::hostile(bytes);
});
