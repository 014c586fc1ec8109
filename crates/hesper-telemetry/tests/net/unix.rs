use crate::{accept, endpoint, next, talk};
use hesper_telemetry::net::{Connector, underlay::UnderlayConnector, unix::UnixIncoming};
use std::{fs, io, os::unix::fs::PermissionsExt, os::unix::net::UnixListener};

#[tokio::test]
async fn a_socket_is_private_and_its_file_goes_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("otlp.sock");
    let mut incoming = UnixIncoming::bind(&path).expect("bound");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let endpoint = endpoint(&format!("unix://{}", path.display()));
    let mut ours = UnderlayConnector::default().connect(&endpoint).await.expect("connected");
    let arrival = next(&mut incoming).await;
    assert!(arrival.from.starts_with(path.to_str().expect("UTF-8")), "{}", arrival.from);
    let (mut theirs, peer) = arrival.ready.await.expect("ready");
    assert_eq!(peer.address, None);
    talk(&mut ours, &mut theirs).await;
    drop(incoming);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_of_the_dead_is_replaced_that_of_the_living_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("otlp.sock");
    // The standard library leaves the file behind, as a killed process does.
    drop(UnixListener::bind(&path).expect("bound"));
    assert!(path.exists());
    let mut incoming = UnixIncoming::bind(&path).expect("replaced");

    let error = UnixIncoming::bind(&path).expect_err("somebody listens");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(path.to_str().expect("UTF-8")), "{error}");
    // The probe is a caller that has gone; the living one goes on.
    let _ = next(&mut incoming).await;
    let _stream = tokio::net::UnixStream::connect(&path).await.expect("connected");
    accept(&mut incoming).await;
}

#[tokio::test]
async fn what_is_no_socket_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("otlp.sock");
    fs::write(&path, "precious").expect("written");
    let error = UnixIncoming::bind(&path).expect_err("a file").to_string();
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("there"), "precious");
}

#[tokio::test]
async fn a_file_of_somebody_else_at_the_path_is_not_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("otlp.sock");
    let incoming = UnixIncoming::bind(&path).expect("bound");
    fs::rename(&path, dir.path().join("moved")).expect("moved");
    fs::write(&path, "precious").expect("written");
    drop(incoming);
    assert!(path.exists());
}
