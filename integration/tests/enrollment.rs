//! A one-time token makes exactly one certificate: whoever asks, however many at once, whatever dies in between.
//!
//! The only files that `hesper edge enroll` makes are the identity file and, beside it until that is written, the private key
//! (`OUT.key.pending`). That one stays when the token may have been redeemed with it, and only then.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hesper_integration::{Output, Place, Process, Stack, http, run, wait_for};
use hesper_pki::{
    csr, key,
    token::{EnrollmentClaims, Signer, read_enrollment},
};
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How many redeem one token at once.
const CROWD: usize = 64;
/// How often the controller dies under an enrollment.
const DEATHS: u32 = 12;

/// A directory of somebody who enrolls: the token in it, and what comes of it.
#[derive(Debug)]
struct Redeemer {
    directory: PathBuf,
}

impl Redeemer {
    fn new(stack: &Stack, name: &str, token: &str) -> Self {
        let directory = PathBuf::from(stack.path(name));
        fs::create_dir(&directory).expect("a directory");
        let redeemer = Self { directory };
        redeemer.put_token(token);
        redeemer
    }

    fn put_token(&self, token: &str) {
        fs::write(self.directory.join("node.jwt"), token).expect("written");
    }

    fn arguments(&self) -> [String; 5] {
        let path = |name: &str| self.directory.join(name).display().to_string();
        ["edge".into(), "enroll".into(), path("node.jwt"), "-o".into(), path("node.json")]
    }

    fn enroll(&self, stack: &Stack) -> Output {
        run(stack.hesper(&Place::host(), self.arguments()), "", Duration::from_secs(120))
    }

    fn files(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.directory).expect("readable");
        entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect()
    }

    fn identity(&self) -> Value {
        let text = fs::read_to_string(self.directory.join("node.json")).expect("an identity file");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Enrolled: the identity file and nothing else, readable by its owner only.
    #[track_caller]
    fn assert_enrolled(&self) {
        assert_eq!(self.files(), ["node.json".to_owned()].into());
        let mode = fs::metadata(self.directory.join("node.json")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// Back to the moment before the answer came: the token and the key are there, the identity is not.
    fn lose_answer(&self, token: &str) -> Value {
        let identity = self.identity();
        let key = identity["id"]["key"].as_str().and_then(|k| k.strip_prefix("pem:")).expect("a key");
        let pending = self.directory.join("node.json.key.pending");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(pending).expect("created");
        file.write_all(key.as_bytes()).expect("written");
        fs::remove_file(self.directory.join("node.json")).expect("removed");
        self.put_token(token);
        identity
    }
}

/// The one line that says why it failed: exit code 1, and nothing of a log or a backtrace.
#[track_caller]
fn reason(output: Output) -> String {
    let output = output.fails_with(1);
    let told: Vec<&str> = output.stderr.lines().filter(|line| !line.starts_with("INFO ")).collect();
    assert!(told.len() == 1 && told[0].starts_with("error: "), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    told[0].to_owned()
}

/// A new identity's id and its token.
fn invite(stack: &Stack, name: &str) -> (String, String) {
    let file = stack.path(&format!("{name}.invitation"));
    stack.cli(["create", "identity", name, "-o", &file]).ok();
    let token = fs::read_to_string(&file).expect("a token").trim().to_owned();
    (claims(&token).sub, token)
}

fn claims(token: &str) -> EnrollmentClaims {
    read_enrollment(token, unix_now()).expect("a token of today")
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// What the controller's audit log says of this identity's enrollments.
fn audited(home: &str, identity: &str) -> Vec<Value> {
    let text = fs::read_to_string(Path::new(home).join("audit.jsonl")).expect("an audit log");
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events.filter(|e| e["event"] == "enrollment" && e["actor"] == identity).collect()
}

/// Serial number and key of each certificate that was given out for this identity.
fn certificates(home: &str, identity: &str) -> BTreeSet<(String, String)> {
    let given = audited(home, identity).into_iter().filter(|e| e["outcome"] == "success");
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    given.map(|e| (text(&e["serial"]), text(&e["keySha256"]))).collect()
}

#[test]
fn of_many_that_redeem_one_token_at_once_one_gets_the_certificate() {
    let stack = Stack::start();
    let home = stack.path("home/controller");
    let (identity, token) = invite(&stack, "node");
    let crowd: Vec<_> = (0..CROWD).map(|i| Redeemer::new(&stack, &format!("r{i}"), &token)).collect();
    let outputs: Vec<Output> = thread::scope(|scope| {
        let running: Vec<_> = crowd.iter().map(|r| scope.spawn(|| r.enroll(&stack))).collect();
        running.into_iter().map(|r| r.join().expect("it ended")).collect()
    });
    let (winners, losers): (Vec<_>, Vec<_>) = crowd.iter().zip(outputs).partition(|(_, o)| o.code == 0);
    assert_eq!((winners.len(), losers.len()), (1, CROWD - 1), "{winners:?}");
    winners[0].0.assert_enrolled();
    let key = winners[0].0.identity();
    let key = key["id"]["key"].as_str().and_then(|k| k.strip_prefix("pem:")).expect("a key");
    let fingerprint = key::PrivateKey::from_pem(key).expect("a key").spki_sha256()[..16].to_owned();
    for (redeemer, output) in losers {
        let reason = reason(output);
        for part in ["redeemed at 20", "by another key", &fingerprint, "(ENROLLMENT_ALREADY_REDEEMED)"] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
        assert_eq!(redeemer.files(), ["node.jwt".to_owned()].into(), "the token, and nothing half made");
    }
    assert_eq!(certificates(&home, &identity).len(), 1);
    let denied = audited(&home, &identity).into_iter().filter(|e| e["outcome"] == "denied").count();
    assert_eq!(denied, CROWD - 1, "each attempt is in the audit log");
}

#[test]
fn the_same_key_gets_its_certificate_again_and_another_key_does_not() {
    let mut stack = Stack::separate();
    let home = stack.path("controller");
    let (identity, token) = invite(&stack, "node");
    let redeemer = Redeemer::new(&stack, "first", &token);
    redeemer.enroll(&stack).ok();
    redeemer.assert_enrolled();
    let first = redeemer.lose_answer(&token);

    // While nobody answers, the key is kept: the token can be redeemed with no other.
    stack.kill_controller();
    let unreachable = reason(redeemer.enroll(&stack));
    assert!(unreachable.contains("no controller could be reached"), "{unreachable}");
    let kept = ["node.json.key.pending", "node.jwt"].map(str::to_owned);
    assert_eq!(redeemer.files(), kept.into());

    stack.start_controller();
    redeemer.enroll(&stack).ok();
    redeemer.assert_enrolled();
    assert_eq!(redeemer.identity()["id"], first["id"], "the same key and certificate");
    assert_eq!(certificates(&home, &identity).len(), 1, "the same serial number");

    let other = Redeemer::new(&stack, "other", &token);
    let refused = reason(other.enroll(&stack));
    assert!(refused.contains("(ENROLLMENT_ALREADY_REDEEMED)"), "{refused}");
    assert_eq!(other.files(), ["node.jwt".to_owned()].into());
    assert_eq!(post(&stack, &token), (409, "ENROLLMENT_ALREADY_REDEEMED".to_owned()));
}

/// Stands between the client and the controller, and withholds the first answer to an enrollment: everything that the
/// controller says once its audit log has a success. Gives its own address.
fn withhold_first_answer(controller: String, home: String, identity: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    thread::spawn(move || {
        let mut withheld = false;
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(mut server) = TcpStream::connect(&controller) else { continue };
            let (mut from, mut to) =
                (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
            thread::spawn(move || io::copy(&mut from, &mut to));
            let (mut client, mut bytes) = (client, [0; 16 * 1024]);
            while let Ok(count @ 1..) = server.read(&mut bytes) {
                // The audit line is written before the answer is sent.
                if !withheld && !certificates(&home, &identity).is_empty() {
                    withheld = true;
                    break;
                }
                if client.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
        }
    });
    address
}

#[test]
fn an_answer_lost_between_commit_and_client_is_given_again() {
    let mut stack = Stack::separate();
    let home = stack.path("controller");
    let (identity, token) = invite(&stack, "node");
    let relay = withhold_first_answer(stack.controller_address(), home.clone(), identity.clone());
    let signer = Signer::load(&Path::new(&home).join("pki/tokens.key")).expect("the controller's key");
    let through = EnrollmentClaims { ctrls: vec![format!("https://{relay}")], ..claims(&token) };
    let redeemer = Redeemer::new(&stack, "r", &signer.sign(&through).expect("signed"));

    let lost = reason(redeemer.enroll(&stack));
    assert!(lost.contains("was lost; run the same command again"), "{lost}");
    let committed = certificates(&home, &identity);
    assert_eq!(committed.len(), 1);
    let kept = ["node.json.key.pending", "node.jwt"].map(str::to_owned);
    assert_eq!(redeemer.files(), kept.into());

    stack.kill_controller();
    reason(redeemer.enroll(&stack));
    stack.start_controller();
    redeemer.enroll(&stack).ok();
    redeemer.assert_enrolled();
    assert_eq!(certificates(&home, &identity), committed, "the same certificate for the same key");
}

#[test]
fn killing_the_controller_at_any_moment_makes_no_second_certificate() {
    let mut stack = Stack::separate();
    let home = stack.path("controller");
    // The deaths are spread over the time that an enrollment takes here.
    let (_, token) = invite(&stack, "undisturbed");
    let started = Instant::now();
    Redeemer::new(&stack, "undisturbed", &token).enroll(&stack).ok();
    let undisturbed = started.elapsed();
    let (mut interrupted, mut lost) = (0, 0);
    for death in 0..DEATHS {
        let (identity, token) = invite(&stack, &format!("node{death}"));
        let redeemer = Redeemer::new(&stack, &format!("r{death}"), &token);
        let mut process = Process::ours("enroll", stack.hesper(&Place::host(), redeemer.arguments()));
        // Not a wait for anything: the moment of the death, another one each time.
        thread::sleep(undisturbed * death / DEATHS);
        stack.kill_controller();
        let ended =
            wait_for("the enrollment ends", Stack::PATIENCE, || process.ended().ok_or("running".into()));
        interrupted += u32::from(!ended.success());
        lost += u32::from(process.said("was lost"));
        if !ended.success() {
            // The controller is still dead: this failure must not cost the key either.
            reason(redeemer.enroll(&stack));
        }
        stack.start_controller();
        if !ended.success() {
            redeemer.enroll(&stack).ok();
        }
        redeemer.assert_enrolled();
        // The controller may have died before it wrote its audit line: the same key asks again, and is audited again.
        redeemer.lose_answer(&token);
        redeemer.enroll(&stack).ok();
        let certificates = certificates(&home, &identity);
        assert_eq!(certificates.len(), 1, "death {death}: {certificates:?}");
    }
    println!(
        "{interrupted} of {DEATHS} enrollments were interrupted, {lost} of them after the request was sent"
    );
    assert!(interrupted > 0, "no death met an enrollment: the test proves nothing");
}

/// POSTs a token with a key of its own; the status and the code of the refusal.
fn post(stack: &Stack, token: &str) -> (u16, String) {
    let request = csr::make(&key::generate().expect("a key")).expect("a request");
    let body = json!({ "token": token, "csr": csr::to_pem(&request) }).to_string();
    let url = format!("https://{}/edge/client/v1/enroll", stack.controller_address());
    let json = "content-type: application/json";
    let answer = http::curl(None, &["-k", "-H", json, "--data-binary", &body, &url]).expect("an answer");
    (answer.status, answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// A token with this header and payload, signed by a new Ed25519 key.
fn signed_by_another(header: &str, payload: &str) -> String {
    let text = format!("{header}.{payload}");
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
    let signature = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key").sign(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn bad_tokens_are_told_apart_and_leave_nothing_behind() {
    let (stack, foreign) = (Stack::start(), Stack::start());
    let (_, token) = invite(&stack, "node");
    let parts: Vec<&str> = token.split('.').collect();
    // What only the controller's own key can sign: a token that it could have issued.
    let key_file = stack.path("home/controller/pki/tokens.key");
    let signer = Signer::load(Path::new(&key_file)).expect("the controller's key");
    let claims = claims(&token);
    let expired = EnrollmentClaims { exp: unix_now() - 60, ..claims.clone() };
    let elsewhere = format!("https://{}", foreign.controller_address());
    let moved = EnrollmentClaims { iss: elsewhere.clone(), ctrls: vec![elsewhere.clone()], ..claims };
    let header: Value = decode(parts[0]);
    let none = json!({ "alg": "none", "typ": header["typ"], "kid": header["kid"] });
    let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(none.to_string()), parts[1]);
    let resigned = signed_by_another(parts[0], parts[1]);
    assert_ne!(resigned, token);

    let bad = [
        (
            "expired",
            signer.sign(&expired).expect("signed"),
            "is too old; ask for a new one (hesper create enrollment): the token expired at 20",
        ),
        (
            "truncated",
            token[..token.len() - 10].to_owned(),
            "check that the file is whole: this is not a JWT: its signature is cut off",
        ),
        ("none", none, r#"the token's algorithm is "none", only EdDSA is accepted"#),
        (
            "resigned",
            resigned,
            "the controller refused: the token's signature is wrong (INVALID_ENROLLMENT_TOKEN)",
        ),
        (
            "moved",
            signer.sign(&moved).expect("signed"),
            "does not belong to the network that issued this token",
        ),
    ];
    let mut reasons = BTreeSet::new();
    for (name, text, expected) in &bad {
        let redeemer = Redeemer::new(&stack, name, text);
        let reason = reason(redeemer.enroll(&stack));
        assert!(reason.contains(expected), "{name}: {reason}");
        assert_eq!(redeemer.files(), ["node.jwt".to_owned()].into(), "{name}");
        reasons.insert(reason.replace(name, ""));
    }
    assert_eq!(reasons.len(), bad.len(), "each says something else");

    // The controller believes no client: it refuses what a client would have kept to itself, in its own words.
    let answers: Vec<_> = bad[..4].iter().map(|(name, text, _)| (*name, post(&stack, text))).collect();
    let refused = |code: &str| (400, code.to_owned());
    assert_eq!(
        answers,
        [
            ("expired", refused("ENROLLMENT_EXPIRED")),
            ("truncated", refused("INVALID_ENROLLMENT_TOKEN")),
            ("none", refused("INVALID_ENROLLMENT_TOKEN")),
            ("resigned", refused("INVALID_ENROLLMENT_TOKEN")),
        ]
    );
    // Another network's controller does not know the key that signed it.
    assert_eq!(post(&foreign, &token), refused("INVALID_ENROLLMENT_TOKEN"));

    // A router's token is refused the same way, and no home is made for it.
    let (file, home) = (stack.path("router.jwt"), stack.path("router-home"));
    stack.cli(["create", "edge-router", "router-2", "-o", &file]).ok();
    let text = fs::read_to_string(&file).expect("a token");
    let parts: Vec<&str> = text.trim().split('.').collect();
    fs::write(&file, signed_by_another(parts[0], parts[1])).expect("written");
    let refused = reason(stack.cli(["router", "enroll", &file, "--home", &home]));
    assert!(refused.contains("the token's signature is wrong"), "{refused}");
    assert!(!Path::new(&home).exists());

    // And none of it has used the true token up.
    let redeemer = Redeemer::new(&stack, "true", &token);
    redeemer.enroll(&stack).ok();
    redeemer.assert_enrolled();
}

fn decode(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}
