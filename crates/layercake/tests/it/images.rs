//! Images in the store: names, listings, archives.

use serde_json::Value;

use crate::lab::{BASE, Build};

/// A store with the image `t`: two layers, the last of 1000 bytes.
fn image() -> Option<Build> {
    let mut b = Build::new()?;
    b.dockerfile(&format!("{BASE}RUN head -c 1000 /dev/zero > /zeros\nCMD [\"wc\", \"-c\", \"/zeros\"]\n"))
        .run()
        .ok();
    Some(b)
}

fn id(b: &Build, name: &str) -> String {
    b.layercake(&["inspect", name]).json()[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn images_lists_what_there_is() {
    let Some(b) = image() else { return };
    b.layercake(&["tag", "t", "localhost:5000/a/b:1"]).ok();
    let list = b.layercake(&["images", "--format", "json"]).json();
    let list = list.as_array().unwrap();
    let get = |key: &str| list.iter().map(|i| i[key].clone()).collect::<Vec<Value>>();
    assert_eq!(get("name"), ["localhost:5000/a/b:1", "t:latest"]);
    assert_eq!(get("repository"), ["localhost:5000/a/b", "t"]);
    assert_eq!(get("layers"), [2, 2]);
    let id = id(&b, "t");
    assert_eq!(get("id"), [id.as_str(), id.as_str()]);
    let busybox = std::fs::metadata(b.path("context/bin/busybox")).unwrap().len();
    assert_eq!(get("size")[0], busybox + 1000);

    let table = b.layercake(&["images"]).ok().to_owned();
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]);
    assert_eq!(lines[1][..3], ["localhost:5000/a/b", "1", &id[7..19]]);
    assert_eq!(b.layercake(&["images", "-q"]).ok(), &id[7..19], "an id once");
    assert_eq!(b.layercake(&["images", "t", "--format", "json"]).json().as_array().unwrap().len(), 1);
    assert_eq!(b.layercake(&["images", "none", "-q"]).ok(), "");
}

#[test]
fn history_says_where_the_bytes_are() {
    let Some(b) = image() else { return };
    let list = b.layercake(&["history", "t", "--format", "json"]).json();
    let rows: Vec<(&str, u64, bool)> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|r| {
            let by = r["created_by"].as_str().unwrap();
            (by.split(' ').next().unwrap(), r["size"].as_u64().unwrap(), r["empty_layer"].as_bool().unwrap())
        })
        .collect();
    let busybox = std::fs::metadata(b.path("context/bin/busybox")).unwrap().len();
    assert_eq!(rows, [("CMD", 0, true), ("RUN", 1000, false), ("COPY", busybox, false)]);
    let table = b.layercake(&["history", "t"]).ok().to_owned();
    assert!(table.lines().nth(2).unwrap().contains("1.00kB"), "{table}");
    let exact = b.layercake(&["history", "--human=false", "--no-trunc", "t"]).ok().to_owned();
    assert!(exact.lines().nth(2).unwrap().contains(" 1000 "), "{exact}");
    // The layers of inspect are the same, base first.
    let details = b.layercake(&["inspect", "t"]).json();
    let layers = details[0]["layers"].as_array().unwrap();
    assert_eq!(layers[1]["bytes"], 1000);
    assert_eq!(layers[1]["layer"], list[1]["layer"]);
    assert_eq!(details[0]["config"]["Cmd"][0], "wc");
    assert_eq!(details[0]["rootfs"]["diff_ids"][1], layers[1]["diff_id"]);
}

#[test]
fn names_come_and_go_and_the_last_takes_the_image_with_it() {
    let Some(b) = image() else { return };
    let whole = id(&b, "t");
    b.layercake(&["tag", &whole[7..15], "other:1"]).ok();
    assert_eq!(id(&b, "other:1"), whole);
    // By id and with two names: only by force.
    let out = b.layercake(&["rmi", &whole[7..19]]);
    assert_eq!(out.code, 1, "{out}");
    assert!(out.stderr.contains("other:1, t:latest") && out.stderr.contains("--force"), "{out}");
    assert_eq!(b.layercake(&["rmi", "t"]).ok(), "Untagged: t:latest");
    assert_eq!(b.layercake(&["run", "other:1"]).ok(), "1000 /zeros");
    assert_eq!(b.layercake(&["rmi", "other:1"]).ok(), format!("Untagged: other:1\nDeleted: {whole}"));
    let out = b.layercake(&["rmi", "other:1"]);
    assert_eq!(out.code, 1, "{out}");
    b.layercake(&["rmi", "-f", "other:1"]).ok();
    assert_eq!(b.layercake(&["images", "--all", "-q"]).ok(), "");
    assert_eq!(b.layercake(&["tag", "t", "again"]).code, 1);
}

#[test]
fn an_image_without_a_name_is_listed_with_all() {
    let Some(mut b) = image() else { return };
    let old = id(&b, "t");
    b.dockerfile(&format!("{BASE}RUN echo other > /x\n")).run().ok();
    let quiet = |words: &[&str]| b.layercake(words).ok().lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(quiet(&["images", "-q", "--no-trunc"]), [id(&b, "t")]);
    assert_eq!(quiet(&["images", "-q", "--no-trunc", "--all"]).len(), 2);
    assert!(b.layercake(&["images", "--all"]).ok().contains("<none>"));
    b.layercake(&["rmi", &old[7..20]]).ok();
    assert_eq!(quiet(&["images", "-q", "--all"]).len(), 1);
}

#[test]
fn an_archive_brings_the_same_image_to_another_store() {
    let Some(b) = image() else { return };
    b.layercake(&["tag", "t", "t:second"]).ok();
    let file = b.path("a.tar").display().to_string();
    for format in ["docker", "oci"] {
        b.layercake(&["save", "--format", format, "-o", &file, "t", "t:second"]).ok();
        let other = Build::another();
        let out = other.layercake(&["load", "-i", &file]);
        assert_eq!(out.ok(), "Loaded image: t:latest\nLoaded image: t:second", "{format}");
        for name in ["t", "t:second"] {
            let (here, there) =
                (b.layercake(&["inspect", name]).json(), other.layercake(&["inspect", name]).json());
            assert_eq!(here[0]["id"], there[0]["id"]);
            assert_eq!(here[0]["rootfs"], there[0]["rootfs"]);
        }
        assert_eq!(other.layercake(&["run", "t"]).ok(), "1000 /zeros");
        // And the archive of what was loaded is the same, byte for byte.
        let again = other.path("b.tar").display().to_string();
        other.layercake(&["save", "--format", format, "-o", &again, "t", "t:second"]).ok();
        assert!(std::fs::read(&file).unwrap() == std::fs::read(&again).unwrap(), "{format}");
    }
}

#[test]
fn archives_go_through_pipes_compressed_or_not() {
    let Some(b) = image() else { return };
    let tar = b.command(&["save", "--compression", "uncompressed", "t"]).output().unwrap().stdout;
    let other = Build::another();
    assert_eq!(other.layercake_with(&["load"], &tar).ok(), "Loaded image: t:latest");
    assert_eq!(id(&other, "t"), id(&b, "t"));
    let packed = other.path("packed");
    std::fs::write(&packed, &tar).unwrap();
    assert!(std::process::Command::new("gzip").arg(&packed).status().unwrap().success());
    let third = Build::another();
    let packed = other.path("packed.gz").display().to_string();
    assert_eq!(third.layercake(&["load", "-i", &packed]).ok(), "Loaded image: t:latest");
    let out = third.layercake_with(&["load"], b"no archive");
    assert_eq!(out.code, 1, "{out}");
}

#[test]
fn files_become_an_image_and_an_image_files() {
    let Some(b) = image() else { return };
    let tar = b.command(&["export", "t"]).output().unwrap().stdout;
    let change = "ENTRYPOINT [\"sh\", \"-c\", \"echo $V; wc -c < /zeros\"]";
    let out = b.layercake_with(&["import", "-c", change, "-c", "ENV V=7", "-m", "why", "-", "flat:1"], &tar);
    assert_eq!(out.ok(), id(&b, "flat:1"));
    assert_eq!(b.layercake(&["run", "flat:1"]).ok(), "7\n1000");
    let list = b.layercake(&["history", "flat:1", "--format", "json"]).json();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["comment"]), (1, &Value::from("why")));
    // The files are the same ones.
    assert!(b.command(&["export", "flat:1"]).output().unwrap().stdout == tar);
    let out = b.layercake_with(&["import", "-c", "RUN true", "-", "x"], &tar);
    assert_eq!(out.code, 2, "{out}");
}

#[test]
fn who_closes_the_pipe_gets_no_error() {
    let Some(b) = image() else { return };
    let mut started = b.start(&["export", "t"]);
    started.close_stdout();
    let out = started.finish();
    assert_eq!((out.code, out.stderr.as_str()), (0, ""));
}

#[test]
fn a_manifest_that_came_goes_on_as_it_is() {
    let Some(b) = image() else { return };
    let dir = b.path("layout");
    std::fs::create_dir(&dir).unwrap();
    let layout = dir.display().to_string();
    b.layercake(&["save", "--format", "oci", "-o", &format!("{layout}/a.tar"), "t"]).ok();
    let tar = std::process::Command::new("tar").args(["-xf", "a.tar"]).current_dir(&dir).status().unwrap();
    assert!(tar.success());
    // A manifest that we would not write: with an annotation.
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let mut index: Value = serde_json::from_str(&read("index.json")).unwrap();
    let blob = |digest: &str| format!("blobs/sha256/{}", digest.strip_prefix("sha256:").unwrap());
    let mut manifest: Value =
        serde_json::from_str(&read(&blob(index["manifests"][0]["digest"].as_str().unwrap()))).unwrap();
    manifest["annotations"]["of"] = "somebody else".into();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let digest = oci::Digest::of(&bytes).to_string();
    std::fs::write(dir.join(blob(&digest)), &bytes).unwrap();
    index["manifests"][0]["digest"] = digest.clone().into();
    index["manifests"][0]["size"] = bytes.len().into();
    std::fs::write(dir.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();

    let other = Build::another();
    assert_eq!(other.layercake(&["load", "-i", &layout]).ok(), "Loaded image: t:latest");
    assert_eq!(other.layercake(&["inspect", "t"]).json()[0]["manifest"], digest);
    let saved = other.command(&["save", "--format", "oci", "t"]).output().unwrap().stdout;
    assert!(saved.windows(bytes.len()).any(|w| w == bytes), "the archive has the manifest's own bytes");
}
