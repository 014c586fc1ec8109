//! The identity file: where values come from, and that a file is private, new, and replaced whole.

use crate::common::*;
use hesper_pki::{
    credentials::CredentialsError,
    identity_file::{IdentityFile, IdentityFileError},
    key,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// An identity file for `alice`, and its key as PEM.
fn alice() -> (IdentityFile, String) {
    let ca = authority("mesh.example");
    let key = key::generate().unwrap();
    let issued = issue(&ca, identity("alice"), &key);
    let controllers = ["https://ctrl:1280".to_owned()];
    (IdentityFile::new(&controllers, &issued.chain_pem, &key, &ca.ca_pem()), key.to_pem().to_string())
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn it_is_written_in_openzitis_layout_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alice.json");
    let (file, key) = alice();
    file.write_new(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    let json = json_of(&path);
    assert_eq!(json["ztAPI"], "https://ctrl:1280/edge/client/v1");
    assert_eq!((&json["ztAPIs"], &json["configTypes"]), (&Value::Null, &Value::Null));
    assert_eq!(json["id"]["key"], format!("pem:{key}"));
    assert!(json["id"]["cert"].as_str().unwrap().starts_with("pem:-----BEGIN CERTIFICATE-----\n"));

    let read = IdentityFile::load(&path).unwrap();
    assert_eq!(read.controllers(), ["https://ctrl:1280"]);
    assert_eq!(read.credentials().unwrap().id, identity("alice"));
    assert!(!format!("{read:?} {:?}", read.id).contains("PRIVATE"));
}

#[test]
fn several_controllers_are_kept_in_order() {
    let (file, key) = alice();
    let key = key::PrivateKey::from_pem(&key).unwrap();
    let urls = ["https://a:1".to_owned(), "https://b:2".to_owned()];
    let two = IdentityFile::new(&urls, &file.id.cert, &key, &file.id.ca);
    assert_eq!(two.controllers(), urls);
}

#[test]
fn an_existing_file_or_link_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (path, link) = (dir.path().join("alice.json"), dir.path().join("link.json"));
    fs::write(&path, "precious").unwrap();
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
    let (file, _) = alice();
    for taken in [&path, &link] {
        let error = file.write_new(taken).unwrap_err();
        assert!(matches!(&error, IdentityFileError::File(e) if e.already_exists()), "{error}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn values_may_be_files_beside_it_or_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (file, key) = alice();
    fs::create_dir(dir.path().join("keys")).unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("keys/alice.key", &key);
    write("alice.cert", file.id.cert.strip_prefix("pem:").unwrap());
    write("ca.pem", file.id.ca.strip_prefix("pem:").unwrap());
    let absolute = format!("file://{}", dir.path().join("alice.cert").display());
    let path = dir.path().join("alice.json");
    let text = json!({
        "ztAPI": "https://ctrl:1280/edge/client/v1",
        "id": { "key": "file:keys/alice.key", "cert": absolute, "ca": "ca.pem" },
    });
    fs::write(&path, text.to_string()).unwrap();
    let read = IdentityFile::load(&path).unwrap();
    assert_eq!(read.credentials().unwrap().id, identity("alice"));

    fs::remove_file(dir.path().join("keys/alice.key")).unwrap();
    let error = read.credentials().unwrap_err();
    assert!(matches!(&error, IdentityFileError::File(e) if e.not_found()));
    assert!(error.to_string().contains("keys/alice.key"), "{error}");
}

#[test]
fn renewal_changes_certificate_and_ca_and_keeps_all_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alice.json");
    let (file, key) = alice();
    fs::write(dir.path().join("alice.key"), &key).unwrap();
    let mut json = serde_json::to_value(&file).unwrap();
    json["id"]["key"] = "file:alice.key".into();
    json["id"]["alt"] = "kept".into();
    json["enableHa"] = false.into();
    fs::write(&path, json.to_string()).unwrap();

    let ca = authority("mesh.example");
    let chain = issue(&ca, identity("alice"), &key::PrivateKey::from_pem(&key).unwrap()).chain_pem;
    IdentityFile::load(&path).unwrap().renewed(&chain, &ca.ca_pem()).replace(&path).unwrap();
    let renewed = json_of(&path);
    assert_eq!(renewed["id"]["cert"], format!("pem:{chain}"));
    assert_eq!(renewed["id"]["ca"], format!("pem:{}", ca.ca_pem()));
    for pointer in ["/id/key", "/id/alt", "/enableHa", "/ztAPI"] {
        assert_eq!(renewed.pointer(pointer), json.pointer(pointer), "{pointer}");
    }
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(IdentityFile::load(&path).unwrap().credentials().unwrap().id, identity("alice"));
}

#[test]
fn faults_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.json");
    assert!(matches!(IdentityFile::load(&path), Err(IdentityFileError::File(e)) if e.not_found()));
    for text in
        ["", "{}", "[]", r#"{"ztAPI":"https://c"}"#, r#"{"ztAPI":1,"id":{"key":"","cert":"","ca":""}}"#]
    {
        fs::write(&path, text).unwrap();
        let error = IdentityFile::load(&path).unwrap_err();
        assert!(matches!(error, IdentityFileError::Json { .. }), "{text}: {error}");
        assert!(error.to_string().contains("x.json"));
    }
    fs::write(&path, " ".repeat(1 << 20)).unwrap();
    assert!(matches!(IdentityFile::load(&path), Err(IdentityFileError::File(_))));

    let (mut file, _) = alice();
    file.id.key = format!("pem:{}", *key::generate().unwrap().to_pem());
    let error = file.credentials().unwrap_err();
    assert!(matches!(error, IdentityFileError::Credentials(CredentialsError::Mismatch)));
}
