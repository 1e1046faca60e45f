//! Documents of an image: what is read and written again reads the same.

#![no_main]

use oci::types::{Descriptor, ImageConfig, Index, Manifest};

macro_rules! again {
    ($bytes:expr, $($kind:ty),*) => {$(
        if let Ok(document) = serde_json::from_slice::<$kind>($bytes) {
            let written = serde_json::to_vec(&document).expect("what was read can be written");
            let read: $kind = serde_json::from_slice(&written).expect("what was written can be read");
            assert_eq!(read, document);
        }
    )*};
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    again!(bytes, Descriptor, Manifest, Index, ImageConfig);
});
