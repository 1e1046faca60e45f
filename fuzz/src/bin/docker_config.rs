//! `config.json` and `auth.json`: any text, asked for any registry. No helper is there to be run.

#![no_main]

use std::path::Path;

use registry::{Credentials, DockerConfig, HelperSettings};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = DockerConfig::parse(Path::new("/config.json"), bytes) else { return };
    let nowhere = HelperSettings { directory: Some("/nowhere".into()), ..HelperSettings::default() };
    let config = config.with_helpers(nowhere);
    let names: Vec<String> = match serde_json::from_slice::<serde_json::Value>(bytes) {
        Ok(document) => {
            document["auths"].as_object().map(|a| a.keys().cloned().collect()).unwrap_or_default()
        }
        Err(_) => Vec::new(),
    };
    let given = ["docker.io", "localhost:5000", ""].map(str::to_owned);
    for name in names.iter().chain(&given) {
        let (host, repository) = name.split_once('/').unwrap_or((name, "a/b"));
        if let Err(e) = config.get(host, repository) {
            let _ = e.to_string();
        }
    }
});
