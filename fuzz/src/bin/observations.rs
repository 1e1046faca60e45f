//! What a step observed, as it lies in a record: what decodes is encoded and decoded again without loss, and compared with a tree
//! without a fault. The same bytes as the account of a build.

#![no_main]

use build::account::BuildRecord;
use build::observe;
use oci::Tree;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The first line says which version it is; what has another one is not looked at.
    let mut whole = b"layercake-observations-2\n".to_vec();
    whole.extend_from_slice(bytes);
    for bytes in [bytes, &whole] {
        let Some(recorded) = observe::decode(bytes) else { continue };
        assert_eq!(observe::decode(&observe::encode(&recorded)).as_ref(), Some(&recorded));
        for view in &recorded.views {
            let _ = observe::first_difference(&Tree::new(), view, &|_, _| None);
        }
    }
    if let Ok(account) = serde_json::from_slice::<BuildRecord>(bytes) {
        let text = serde_json::to_vec(&account).expect("what was read can be written");
        assert_eq!(
            serde_json::from_slice::<BuildRecord>(&text).expect("what was written can be read"),
            account
        );
    }
});
