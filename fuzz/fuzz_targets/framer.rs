#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| xbosh_fuzz::framer::run(data));
