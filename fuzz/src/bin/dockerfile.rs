//! Any text as a Dockerfile, and as an ONBUILD trigger.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    layercake_fuzz::examine(text);
    dockerfile::parse_instruction(text, '`');
});
