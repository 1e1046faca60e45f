//! `analyse`: images of the store, of archives, of standard input; lines of the Dockerfile; exit codes.

use std::io::{Read, Write};

use serde_json::Value;

use crate::lab::{BASE, Build};

/// A store with the image `t` on the base `b`: 5000 bytes that the last step deletes, made in lines 2 and 3, and 300 bytes changed in mode alone.
fn image() -> Option<Build> {
    let mut b = Build::new()?;
    b.dockerfile(BASE).run().ok();
    b.layercake(&["tag", "t", "b"]).ok();
    b.file("file", &"x".repeat(300));
    b.dockerfile(
        "FROM b\nRUN head -c 5000 /dev/zero > /zeros && \\\n  cat /bin/busybox > /dev/null\nCOPY file /file\nRUN rm /zeros\nCOPY --chmod=755 file /file\n",
    )
    .run()
    .ok();
    Some(b)
}

fn json(b: &Build, words: &[&str]) -> Value {
    b.layercake(&[&["analyse", "--format", "json"], words].concat()).json()
}

#[test]
fn bytes_have_a_cause_a_line_and_an_owner() {
    let Some(b) = image() else { return };
    let doc = json(&b, &["t"]);
    assert_eq!(doc["totals"]["reclaimable"]["bytes"], 5300);
    assert_eq!(doc["totals"]["causes"]["deleted"]["bytes"], 5000);
    assert_eq!(doc["totals"]["causes"]["metadata"]["bytes"], 300);
    assert_eq!(doc["totals"]["yours"]["reclaimable"]["bytes"], 5300);
    assert_eq!(doc["image"]["base"]["layers"], 1);
    assert_eq!(doc["image"]["base"]["source"], "record");
    assert_eq!(doc["layers"][0]["owner"], "base");
    let lines: Vec<(u64, u64)> = doc["layers"].as_array().unwrap()[1..]
        .iter()
        .map(|l| (l["source"]["line"].as_u64().unwrap(), l["source"]["last_line"].as_u64().unwrap()))
        .collect();
    assert_eq!(lines, [(2, 3), (4, 4), (5, 5), (6, 6)]);
    let first = &doc["findings"][0];
    assert_eq!(
        (first["cause"].as_str(), first["layer"].as_u64(), first["by"].as_u64()),
        (Some("deleted"), Some(1), Some(3))
    );
    assert_eq!(first["largest"][0]["path"], "/zeros");
    let text = b.layercake(&["dive", "t"]).ok().to_owned();
    assert!(text.contains("line 2: RUN head -c 5000"), "{text}");
    assert!(text.contains("5.30kB of it in your layers"), "{text}");
}

#[test]
fn the_same_image_from_everywhere() {
    let Some(b) = image() else { return };
    let from_store = json(&b, &["t"]);
    let (docker, oci) = (b.path("d.tar").display().to_string(), b.path("o.tar").display().to_string());
    b.layercake(&["save", "-o", &docker, "t"]).ok();
    b.layercake(&["save", "--format", "oci", "-o", &oci, "t"]).ok();
    let none = b.path("no-store").display().to_string();
    for path in [&docker, &oci] {
        let doc = json(&b, &["--root", &none, path]);
        assert_eq!(doc["totals"]["causes"].as_object().unwrap().len(), 6);
        for key in ["shipped", "live", "reclaimable"] {
            for part in ["files", "bytes"] {
                assert_eq!(doc["totals"][key][part], from_store["totals"][key][part], "{path} {key}");
            }
        }
        assert_eq!(doc["layers"][0]["packing"], "measured");
        let piped = b.layercake_with(
            &["--root", &none, "analyse", "--format", "json", "-"],
            &std::fs::read(path).unwrap(),
        );
        let piped = piped.json();
        assert_eq!(piped["totals"], doc["totals"], "{path}");
    }
    assert!(!b.path("no-store").exists(), "looking makes no store");
    // A base that is given; one that is none.
    let doc = json(&b, &["--base", "b", &docker]);
    assert_eq!(doc["image"]["base"]["source"], "given");
    assert_eq!(b.layercake(&["analyse", "--base", "t", "b"]).code, 2);
    // The Dockerfile that is named.
    let dockerfile = b.path("context/Dockerfile").display().to_string();
    let doc = json(&b, &["--root", &none, "--file", &dockerfile, &docker]);
    assert_eq!(doc["layers"][4]["source"]["line"], 6);
}

#[test]
fn gates_have_codes() {
    let Some(b) = image() else { return };
    let code = |words: &[&str]| b.layercake(&[&["analyse"], words].concat()).code;
    assert_eq!(code(&["t"]), 0);
    assert_eq!(code(&["--max-dead", "6kB", "t"]), 0);
    assert_eq!(code(&["--max-dead", "5kB", "t"]), 1);
    assert_eq!(code(&["--forbid", "/zeros", "t"]), 1);
    assert_eq!(code(&["--forbid", "/zeros", "--allow", "zer*", "t"]), 0);
    assert_eq!(code(&["--max-dead", "much", "t"]), 2);
    assert_eq!(code(&["--lowestEfficiency", "7", "t"]), 2);
    assert_eq!(code(&["--ci-config", "none", "--ci", "t"]), 2);
    assert_eq!(code(&["./none.tar"]), 3);
    assert_eq!(code(&["store:none"]), 3);
    let damaged = b.path("damaged.tar").display().to_string();
    std::fs::write(&damaged, [7; 3000]).unwrap();
    assert_eq!(code(&["--ci", &damaged]), 3, "no verdict without an analysis");
    // As dive: CI=true and a file of rules.
    let rules = b.path("rules").display().to_string();
    let ci = |text: &str| {
        std::fs::write(&rules, text).unwrap();
        let mut command = b.command(&["analyse", "--ci-config", &rules, "t"]);
        let out = command.env("CI", "true").output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
    };
    let (code, text) = ci("rules:\n  lowestEfficiency: 0.0\n  highestUserWastedPercent: disabled\n");
    assert!(code == 0 && text.contains("PASS  lowestEfficiency"), "{code} {text}");
    let (code, text) = ci("rules:\n  highestUserWastedPercent: 0.01\n");
    assert!(code == 1 && text.contains("FAIL  highestUserWastedPercent"), "{code} {text}");
    assert_eq!(ci("layercake:\n  max-layers: 4\n").0, 1);
    assert_eq!(ci("layercake:\n  max-lairs: 4\n").0, 2);
    // A baseline that was stored.
    let report = b.layercake(&["analyse", "--format", "json", "b"]).ok().to_owned();
    let file = b.path("baseline.json").display().to_string();
    std::fs::write(&file, report).unwrap();
    let grown = |most: &str| b.layercake(&["analyse", "--baseline", &file, "--max-growth", most, "t"]).code;
    assert_eq!((grown("5600"), grown("5599")), (0, 1));
    assert_eq!(b.layercake(&["analyse", "--previous", "b", "--max-growth", "1kB", "t"]).code, 1);
}

#[test]
fn programs_get_their_forms() {
    let Some(b) = image() else { return };
    let of = |format: &str| b.layercake(&["analyse", "--format", format, "t"]).ok().to_owned();
    let dive: Value = serde_json::from_str(&of("dive-json")).unwrap();
    assert_eq!(dive["layer"].as_array().unwrap().len(), 5);
    let file = b.path("dive.json").display().to_string();
    b.layercake(&["analyse", "--json", &file, "t"]).ok();
    let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(written, dive);
    let sarif: Value = serde_json::from_str(&of("sarif")).unwrap();
    let place = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["region"]["startLine"], 2);
    assert!(of("markdown").starts_with("### t"));
    assert!(of("csv").lines().nth(1).unwrap().starts_with("deleted-1-3,deleted,yours,1,3,1,5000,"));
}

#[test]
fn a_daemon_is_asked_through_its_socket() {
    let Some(b) = image() else { return };
    let archive = b.path("d.tar").display().to_string();
    b.layercake(&["save", "-o", &archive, "t"]).ok();
    let bytes = std::fs::read(&archive).unwrap();
    let socket = b.path("docker.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 1000];
        let n = stream.read(&mut request).unwrap();
        let _ = stream
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len()).as_bytes());
        let _ = stream.write_all(&bytes);
        String::from_utf8_lossy(&request[..n]).into_owned()
    });
    let mut command = b.command(&["analyse", "--format", "json", "docker://t:1"]);
    let out = command.env("DOCKER_HOST", format!("unix://{}", socket.display())).output().unwrap();
    let doc: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(doc["image"]["origin"], "daemon");
    assert_eq!(doc["totals"]["reclaimable"]["bytes"], 5300);
    assert!(server.join().unwrap().starts_with("GET /images/t:1/get HTTP/1.1\r\n"));
    let gone = b.command(&["analyse", "podman:t"]).env("CONTAINER_HOST", "unix:///none").output().unwrap();
    assert_eq!(gone.status.code(), Some(3));
    let far = b.command(&["analyse", "docker-daemon:t"]).env("DOCKER_HOST", "tcp://far:1").output().unwrap();
    assert_eq!(far.status.code(), Some(3));
}
