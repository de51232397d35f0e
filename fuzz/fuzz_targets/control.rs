//! See `quorate_tests::control::lines`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = quorate_tests::control::lines(bytes);
});
