//! References to images, digests and platforms: what is read is written in a form that reads the same.

#![no_main]

use oci::platform::Platform;
use oci::{Digest, Reference};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        for form in [reference.to_string(), reference.familiar()] {
            assert_eq!(form.parse::<Reference>().as_ref(), Ok(&reference), "{form}");
        }
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }
    if let Ok(platform) = text.parse::<Platform>() {
        let form = platform.to_string();
        assert_eq!(form.parse::<Platform>().ok().as_ref(), Some(&platform), "{form}");
    }
});
