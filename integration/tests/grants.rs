//! No stream without a grant that is fresh, whole, and for exactly this dialer, key, binder, service and terminator: ten thousand grants
//! that are not are refused by a real binder, and every good one in between is accepted.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hesper_integration::{
    Process, Stack, free_port,
    hostile::{Ask, HostileNode, open, renew},
    http, wait_until,
};
use hesper_overlay::{
    peer::{OpenError, Peer},
    stream::StreamError,
};
use hesper_pki::token::{GrantClaims, Signer, Verifier};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use ring::{hmac, signature::Ed25519KeyPair};
use serde_json::{Map, Value, json};
use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
    task::JoinSet,
    time::timeout,
};

const VARIANTS: usize = 10_000;
/// Variants under way at once; a good grant after each such lot.
const LOT: usize = 250;
const PATIENCE: Duration = Stack::PATIENCE;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs()
}

/// Signs whatever it is given with the controller's own key: what the claims say must count, not only who signed.
struct Forge {
    pair: Ed25519KeyPair,
    stranger: Ed25519KeyPair,
    kid: String,
    public_key: [u8; 32],
}

impl Forge {
    fn steal(key_file: &str) -> Self {
        let signer = Signer::load(Path::new(key_file)).expect("the controller's key");
        let pem = fs::read_to_string(key_file).expect("the key file");
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(base64).expect("base64");
        let pair = Ed25519KeyPair::from_pkcs8(&der).expect("a key");
        let random = ring::rand::SystemRandom::new();
        let other = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let stranger = Ed25519KeyPair::from_pkcs8(other.as_ref()).expect("a key");
        Self { pair, stranger, kid: signer.kid().to_owned(), public_key: signer.public_key() }
    }

    fn header(&self) -> Map<String, Value> {
        let header = json!({"alg": "EdDSA", "typ": "hesper-grant+jwt", "kid": self.kid});
        header.as_object().cloned().expect("an object")
    }

    /// A compact JWS of these texts, whatever they are.
    fn sign(&self, header: &str, claims: &str, with: &Ed25519KeyPair) -> String {
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(with.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }

    fn grant(&self, claims: &Map<String, Value>) -> String {
        self.sign(&text(&self.header()), &text(claims), &self.pair)
    }
}

fn text(object: &Map<String, Value>) -> String {
    serde_json::to_string(object).expect("JSON")
}

fn parts(token: &str) -> [String; 3] {
    let parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    parts.try_into().expect("three parts")
}

/// Where a variant is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Mallory's connection to the binder of `first` and `second`.
    Own,
    /// Mallory's connection to the other binder.
    OtherBinder,
    /// Another dialer's connection to the first binder.
    OtherDialer,
}

struct Variant {
    what: String,
    over: Over,
    ask: Ask,
}

/// Everything that variants are made from: honest grants of two dialers for three services at two binders.
struct Material {
    forge: Forge,
    rng: StdRng,
    /// Mallory's, for `first` at the first binder: the one that is altered.
    own: Ask,
    claims: Map<String, Value>,
    /// Mallory's for `second` at the first binder.
    second: Ask,
    /// Mallory's for `third` at the other binder.
    elsewhere: Ask,
    /// Another dialer's for `first`.
    others: Ask,
    others_claims: Map<String, Value>,
    elsewhere_claims: Map<String, Value>,
    /// Tokens of other kinds, genuine.
    foreign: Vec<(&'static str, String)>,
}

/// Claims that a binder holds a grant against. `jti` names the grant and may be any; `tag` is where packets for the dialer go.
const BINDING: [&str; 5] = ["sub", "aud", "service", "terminator", "cnf"];
/// Everything that a grant has to say.
const REQUIRED: [&str; 9] = ["jti", "sub", "aud", "service", "terminator", "tag", "cnf", "iat", "exp"];

impl Material {
    fn variant(&mut self, number: usize) -> Variant {
        let make = [
            Self::another_value,
            Self::a_value_slightly_altered,
            Self::another_time,
            Self::a_value_of_another_shape,
            Self::a_claim_missing_or_added,
            Self::a_target_that_the_grant_is_not_for,
            Self::a_replay,
            Self::a_flipped_character,
            Self::claims_altered_under_the_signature,
            Self::another_signature,
            Self::another_header,
            Self::another_shape,
        ];
        let (what, over, ask) = make[number % make.len()](self);
        Variant { what, over, ask }
    }

    fn signed(&self, claims: &Map<String, Value>) -> Ask {
        Ask { grant: self.forge.grant(claims), ..self.own.clone() }
    }

    fn with(&self, name: &str, value: impl Into<Value>) -> Map<String, Value> {
        let mut claims = self.claims.clone();
        claims.insert(name.into(), value.into());
        claims
    }

    /// Signed by the controller's key, for somebody or something else that exists.
    fn another_value(&mut self) -> (String, Over, Ask) {
        let name = *BINDING.choose(&mut self.rng).expect("a name");
        let others: Vec<_> = [&self.others_claims, &self.elsewhere_claims, &self.claims]
            .iter()
            .flat_map(|claims| claims.values())
            .filter(|value| value.is_string() && **value != self.claims[name])
            .cloned()
            .collect();
        let value = others.choose(&mut self.rng).expect("another value").clone();
        (format!("{name} is {value}"), Over::Own, self.signed(&self.with(name, value)))
    }

    /// Signed by the controller's key, one character away from the truth.
    fn a_value_slightly_altered(&mut self) -> (String, Over, Ask) {
        let name = *BINDING.choose(&mut self.rng).expect("a name");
        let truth = self.claims[name].as_str().expect("text").to_owned();
        let at = self.rng.random_range(0..truth.len());
        let value = match self.rng.random_range(0..8) {
            0 => String::new(),
            1 => format!("{truth} "),
            2 => format!(" {truth}"),
            3 => format!("{truth}\u{0}"),
            4 => truth[..at].to_owned(),
            5 => format!("{truth}{truth}"),
            6 => truth.chars().rev().collect(),
            _ => {
                let other = if &truth[at..=at] == "0" { "1" } else { "0" };
                format!("{}{other}{}", &truth[..at], &truth[at + 1..])
            }
        };
        if value == truth {
            return self.a_value_slightly_altered();
        }
        (format!("{name} is {value:?}"), Over::Own, self.signed(&self.with(name, value)))
    }

    /// Signed by the controller's key, over or not yet begun.
    fn another_time(&mut self) -> (String, Over, Ask) {
        let (now, mut claims) = (now(), self.claims.clone());
        if self.rng.random() {
            let before = 1 << self.rng.random_range(0..30);
            claims.insert("iat".into(), (now - before - 300).into());
            claims.insert("exp".into(), (now - before).into());
        } else {
            let later = now + 60 + (1 << self.rng.random_range(0..30));
            claims.insert("iat".into(), later.into());
            claims.insert("exp".into(), (later + 300).into());
        }
        (format!("from {} to {}", claims["iat"], claims["exp"]), Over::Own, self.signed(&claims))
    }

    /// Signed by the controller's key, with a claim that is no text or no whole number.
    fn a_value_of_another_shape(&mut self) -> (String, Over, Ask) {
        let name = *REQUIRED.choose(&mut self.rng).expect("a name");
        let exp = self.claims["exp"].as_u64().expect("a number");
        let shapes = if ["iat", "exp"].contains(&name) {
            vec![json!(exp.to_string()), json!(exp as f64 + 0.5), json!(-1), json!(u64::MAX), json!(1e300)]
        } else {
            vec![json!(7), json!(true), json!([self.claims[name]]), json!({"a": self.claims[name]})]
        };
        let shapes: Vec<_> = shapes.into_iter().chain([Value::Null, json!([]), json!({})]).collect();
        let value = shapes.choose(&mut self.rng).expect("a shape").clone();
        (format!("{name} is {value}"), Over::Own, self.signed(&self.with(name, value)))
    }

    /// Signed by the controller's key, with a claim too few, too many, or twice.
    fn a_claim_missing_or_added(&mut self) -> (String, Over, Ask) {
        let name = *REQUIRED.choose(&mut self.rng).expect("a name");
        let mut claims = self.claims.clone();
        let grant = match self.rng.random_range(0..4) {
            0 => {
                claims.remove(name);
                self.forge.grant(&claims)
            }
            1 => {
                let added = ["admin", "nbf", "iss", "scope", "roles", "Sub", "AUD"];
                claims.insert(
                    (*added.choose(&mut self.rng).expect("a name")).into(),
                    self.claims[name].clone(),
                );
                self.forge.grant(&claims)
            }
            2 => {
                let value = claims.remove(name).expect("a value");
                claims.insert(name.to_uppercase(), value);
                self.forge.grant(&claims)
            }
            _ => {
                let whole = text(&claims);
                let twice = format!("{},\"{name}\":{}}}", &whole[..whole.len() - 1], self.claims[name]);
                self.forge.sign(&text(&self.forge.header()), &twice, &self.forge.pair)
            }
        };
        (format!("{name} missing, added or twice"), Over::Own, Ask { grant, ..self.own.clone() })
    }

    /// A genuine grant, and a stream for something else.
    fn a_target_that_the_grant_is_not_for(&mut self) -> (String, Over, Ask) {
        let own = self.own.clone();
        let mut ids: Vec<_> = [&self.second, &self.elsewhere]
            .iter()
            .flat_map(|a| [a.service_id.clone(), a.terminator_id.clone()])
            .chain([String::new(), "x".repeat(self.rng.random_range(1..500)), own.service_id.to_uppercase()])
            .collect();
        ids.retain(|id| ![&own.service_id, &own.terminator_id].contains(&id));
        let id = |rng: &mut StdRng| ids.choose(rng).expect("an id").clone();
        let ask = match self.rng.random_range(0..4) {
            0 => Ask { service_id: id(&mut self.rng), ..own },
            1 => Ask { terminator_id: id(&mut self.rng), ..own },
            2 => Ask { service_id: own.terminator_id.clone(), terminator_id: own.service_id.clone(), ..own },
            _ => Ask { grant: own.grant, ..self.second.clone() },
        };
        (format!("a stream for {} at {}", ask.service_id, ask.terminator_id), Over::Own, ask)
    }

    /// A genuine token, where it is not for.
    fn a_replay(&mut self) -> (String, Over, Ask) {
        let own = self.own.clone();
        let foreign = self.foreign.choose(&mut self.rng).expect("a token").clone();
        match self.rng.random_range(0..7) {
            0 => ("the other dialer's grant".into(), Over::Own, self.others.clone()),
            1 => ("our grant, by another dialer".into(), Over::OtherDialer, own),
            2 => ("our grant, at another binder".into(), Over::OtherBinder, own),
            3 => {
                let ask = Ask { grant: own.grant, ..self.elsewhere.clone() };
                ("our grant, at another binder, for what it hosts".into(), Over::OtherBinder, ask)
            }
            4 => ("a grant for another binder".into(), Over::Own, self.elsewhere.clone()),
            5 => {
                let ask = Ask { grant: self.elsewhere.grant.clone(), ..own };
                ("a grant for another binder, for what is hosted here".into(), Over::Own, ask)
            }
            _ => (format!("a {} token", foreign.0), Over::Own, Ask { grant: foreign.1, ..own }),
        }
    }

    /// One character of the token is another one.
    fn a_flipped_character(&mut self) -> (String, Over, Ask) {
        const CHARACTERS: &[u8] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\0";
        let mut bytes = self.own.grant.clone().into_bytes();
        let at = self.rng.random_range(0..bytes.len());
        let old = bytes[at];
        while bytes[at] == old {
            bytes[at] = *CHARACTERS.choose(&mut self.rng).expect("a character");
        }
        let grant = String::from_utf8(bytes).expect("ASCII");
        (format!("another character at {at}"), Over::Own, Ask { grant, ..self.own.clone() })
    }

    /// Other claims, the old signature.
    fn claims_altered_under_the_signature(&mut self) -> (String, Over, Ask) {
        let name = *REQUIRED.choose(&mut self.rng).expect("a name");
        let value = match name {
            "iat" | "exp" => {
                json!(self.claims[name].as_u64().expect("a number") + self.rng.random_range(1..1_000))
            }
            "tag" => json!(format!("{:016x}", self.rng.random::<u64>())),
            _ => json!(format!("{:x}", self.rng.random::<u128>())),
        };
        let [header, _, signature] = parts(&self.own.grant);
        let claims = URL_SAFE_NO_PAD.encode(text(&self.with(name, value)));
        let grant = format!("{header}.{claims}.{signature}");
        (format!("{name} altered, signature kept"), Over::Own, Ask { grant, ..self.own.clone() })
    }

    /// The right words, signed by somebody else, or by nobody.
    fn another_signature(&mut self) -> (String, Over, Ask) {
        let (header, claims) = (text(&self.forge.header()), text(&self.claims));
        let [h, c, s] = parts(&self.own.grant);
        let (what, grant) = match self.rng.random_range(0..5) {
            0 => ("a stranger's", self.forge.sign(&header, &claims, &self.forge.stranger)),
            1 => ("none", format!("{h}.{c}.")),
            2 => ("another grant's", format!("{h}.{c}.{}", parts(&self.others.grant)[2])),
            3 => ("zeros", format!("{h}.{c}.{}", URL_SAFE_NO_PAD.encode([0; 64]))),
            _ => ("cut short", format!("{h}.{c}.{}", &s[..self.rng.random_range(0..s.len())])),
        };
        (format!("signature: {what}"), Over::Own, Ask { grant, ..self.own.clone() })
    }

    /// Another algorithm, type, key, or more than that in the header, signed by the controller's key where it can be.
    fn another_header(&mut self) -> (String, Over, Ask) {
        let mut header = self.forge.header();
        let (name, value) = match self.rng.random_range(0..8) {
            0 => {
                ("alg", json!(["none", "None", "HS256", "RS256", "ES256", "EDDSA", ""].choose(&mut self.rng)))
            }
            1 => (
                "typ",
                json!(
                    ["JWT", "hesper-pass+jwt", "hesper-session+jwt", "hesper-grant", ""]
                        .choose(&mut self.rng)
                ),
            ),
            2 => ("kid", json!(["", "../../etc/passwd", "0", "' OR 1=1", "unknown"].choose(&mut self.rng))),
            3 => ("crit", json!(["exp"])),
            4 => (
                "jwk",
                json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(self.forge.public_key)}),
            ),
            5 => ("x5u", json!("https://example.org/key")),
            6 => ("zip", json!("DEF")),
            _ => ("alg", json!("HS256")),
        };
        header.insert(name.into(), value);
        let (header, claims) = (text(&header), text(&self.claims));
        let grant = if header.contains("HS256") {
            let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&claims));
            let mac =
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.forge.public_key), signed.as_bytes());
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
        } else if header.to_lowercase().contains("none") {
            format!("{}.{}.", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&claims))
        } else {
            self.forge.sign(&header, &claims, &self.forge.pair)
        };
        (format!("header {header}"), Over::Own, Ask { grant, ..self.own.clone() })
    }

    /// Not three parts, padded, too long, not text at all.
    fn another_shape(&mut self) -> (String, Over, Ask) {
        let own = self.own.grant.clone();
        let [h, c, s] = parts(&own);
        let cut = self.rng.random_range(0..own.len());
        let grant = match self.rng.random_range(0..9) {
            0 => String::new(),
            1 => own[..cut].to_owned(),
            2 => format!("{own}."),
            3 => format!("{own}="),
            4 => format!("{h}.{c}.{c}.{s}"),
            5 => format!("{c}.{h}.{s}"),
            6 => "A".repeat(self.rng.random_range(1..20_000)),
            7 => format!("{} {}", &own[..cut], &own[cut..]),
            _ => format!("Bearer {own}"),
        };
        (format!("another shape: {} bytes", grant.len()), Over::Own, Ask { grant, ..self.own.clone() })
    }
}

/// Gives back what it is sent, on loopback; counts connections.
fn echo(accepted: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            accepted.fetch_add(1, Relaxed);
            thread::spawn(move || io::copy(&mut &connection, &mut &connection));
        }
    });
    address
}

/// Two binders, two dialers, three services.
struct World {
    runtime: Runtime,
    mallory: HostileNode,
    alice: HostileNode,
    accepted: Arc<AtomicUsize>,
    /// Each with the address of its metrics.
    binders: [(Process, String); 2],
    stack: Stack,
}

impl World {
    fn start() -> Self {
        let (stack, accepted) = (Stack::separate(), Arc::default());
        let files = ["binder", "elsewhere", "mallory", "alice"].map(|name| stack.enroll(name, &["any"]));
        let target = echo(Arc::clone(&accepted));
        for (service, host) in [("first", "@binder"), ("second", "@binder"), ("third", "@elsewhere")] {
            stack.publish(service, target, host);
            stack.allow("Dial", service, "#any");
        }
        let binders =
            [("binder", &files[0], 2), ("elsewhere", &files[1], 1)].map(|(name, file, services)| {
                let metrics = format!("127.0.0.1:{}", free_port());
                let process = stack.tunnel(name, &["host", "-i", file, "--metrics", &metrics]);
                let bound = || process.lines().iter().filter(|line| line.contains("service bound")).count();
                wait_until("it hosts", PATIENCE, || bound() == services);
                (process, format!("http://{metrics}/metrics"))
            });
        let runtime = Runtime::new().expect("a runtime");
        let [mallory, alice] = [&files[2], &files[3]].map(|file| runtime.block_on(HostileNode::start(file)));
        Self { runtime, mallory, alice, accepted, binders, stack }
    }

    /// What both binders say that they refused of this kind. Not every refusal is worth a line in the log.
    fn refused(&self, what: &str) -> usize {
        let counter = format!("hesper_node_refused_total{{what=\"{what}\"}} ");
        let of = |url: &str| {
            let told = http::get(url).expect("metrics").body;
            told.lines().find_map(|line| line.strip_prefix(&counter)?.parse().ok()).unwrap_or(0)
        };
        self.binders.iter().map(|(_, url)| of(url)).sum()
    }

    fn material(&self) -> Material {
        let forge = Forge::steal(&self.stack.path("controller/pki/tokens.key"));
        let grant = |node: &HostileNode, service| self.runtime.block_on(node.grant(service));
        let verifier = Verifier::new([(forge.kid.clone(), forge.public_key)]);
        let claims = |ask: &Ask| {
            let claims: GrantClaims = verifier.verify(&ask.grant, now()).expect("a grant");
            serde_json::to_value(claims).expect("JSON").as_object().cloned().expect("an object")
        };
        let honest = grant(&self.mallory, "first");
        let (own, others) = (Ask::from(&honest), Ask::from(&grant(&self.alice, "first")));
        let elsewhere = Ask::from(&grant(&self.mallory, "third"));
        let unused = self.stack.path("unused.jwt");
        self.stack.cli(["create", "identity", "unused", "-o", &unused]).ok();
        let foreign = vec![
            ("pass", honest.pass),
            ("session", self.mallory.session_token().to_owned()),
            ("enrollment", fs::read_to_string(unused).expect("a token")),
        ];
        Material {
            rng: StdRng::seed_from_u64(20_260_822),
            claims: claims(&own),
            others_claims: claims(&others),
            elsewhere_claims: claims(&elsewhere),
            second: Ask::from(&grant(&self.mallory, "second")),
            forge,
            own,
            elsewhere,
            others,
            foreign,
        }
    }

    fn peers(&self) -> [Peer; 3] {
        [(&self.mallory, "first"), (&self.mallory, "third"), (&self.alice, "first")].map(|(node, service)| {
            self.runtime.block_on(async { node.connect_by(&node.grant(service).await).await })
        })
    }
}

/// A stream opens and works.
async fn works(peer: &Peer, ask: &Ask) {
    let mut stream = open(peer, ask).await.expect("a good grant is accepted");
    stream.write_all(b"good").await.expect("sent");
    let mut back = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.expect("in time").expect("an echo");
    assert_eq!(&back, b"good");
}

#[test]
fn none_of_ten_thousand_grants_that_are_not_for_this_opens_a_stream() {
    let world = World::start();
    let (mut material, [own, elsewhere, others]) = (world.material(), world.peers());
    let good = [
        (&own, &material.own.clone()),
        (&elsewhere, &material.elsewhere.clone()),
        (&others, &material.others.clone()),
    ]
    .map(|(peer, ask)| (peer.clone(), ask.clone()));
    // What the forge makes from honest claims is as good as the controller's: refusals below are for what was altered.
    let mut renamed = material.claims.clone();
    renamed.insert("jti".into(), "another".into());
    let forged = material.signed(&renamed);
    let mut opened = 0;
    world.runtime.block_on(async {
        works(&own, &forged).await;
        opened += 1;
        for lot in 0..VARIANTS.div_ceil(LOT) {
            let mut asked = JoinSet::new();
            for number in lot * LOT..VARIANTS.min((lot + 1) * LOT) {
                let Variant { what, over, ask } = material.variant(number);
                let honest = [&material.own, &material.second].contains(&&ask) && over == Over::Own;
                assert!(!honest, "{what}: nothing was altered");
                let peer = match over {
                    Over::Own => own.clone(),
                    Over::OtherBinder => elsewhere.clone(),
                    Over::OtherDialer => others.clone(),
                };
                asked.spawn(async move {
                    match open(&peer, &ask).await {
                        Err(OpenError::Refused { code, .. }) => code,
                        other => panic!("{what}: {other:?}"),
                    }
                });
            }
            for code in asked.join_all().await {
                assert!(["INVALID_GRANT", "GRANT_EXPIRED", "INVALID_TERMINATOR"].contains(&&*code), "{code}");
            }
            for (peer, ask) in &good {
                works(peer, ask).await;
                opened += 1;
            }
        }
    });
    wait_until("every good stream has reached the target", PATIENCE, || {
        world.accepted.load(Relaxed) >= opened
    });
    assert_eq!(world.accepted.load(Relaxed), opened, "nothing but the good ones reached the target");
    wait_until("each is counted", PATIENCE, || world.refused("dial") >= VARIANTS);
    assert_eq!(world.refused("dial"), VARIANTS);
}

#[test]
fn a_renewal_that_is_not_for_this_stream_prolongs_nothing() {
    let world = World::start();
    let (mut material, [own, elsewhere, others]) = (world.material(), world.peers());
    let short = |material: &Material, seconds: u64| {
        let mut claims = material.claims.clone();
        claims.insert("exp".into(), (now() + seconds).into());
        material.signed(&claims)
    };
    world.runtime.block_on(async {
        // Long enough to open all three, short enough to wait for.
        let brief = short(&material, 6);
        let mut ends = open(&own, &brief).await.expect("a stream");
        let mut of_another = open(&others, &material.others).await.expect("a stream");
        for number in 0..500 {
            let Variant { over, ask, .. } = material.variant(number);
            match over {
                Over::Own => renew(&own, &ask),
                Over::OtherBinder => renew(&elsewhere, &ask),
                Over::OtherDialer => renew(&others, &ask),
            }
        }
        // Another terminator's: a good grant, for other streams.
        renew(&own, &material.second);
        let end = timeout(PATIENCE, ends.read_u8()).await.expect("it ends").expect_err("by its grant");
        let reason = end.get_ref().and_then(|e| e.downcast_ref::<StreamError>());
        assert!(matches!(reason, Some(StreamError::Expired)), "{end:?}");
        wait_until("every bad renewal was seen", PATIENCE, || world.refused("renewal") == 500);
        of_another.write_all(b"x").await.expect("open");
        assert_eq!(timeout(PATIENCE, of_another.read_u8()).await.expect("in time").expect("an echo"), b'x');
        // The same with a renewal that is good.
        let mut goes_on = open(&own, &short(&material, 3)).await.expect("a stream");
        renew(&own, &material.own);
        let waited = timeout(Duration::from_secs(5), goes_on.read_u8()).await;
        assert!(waited.is_err(), "it outlived its first grant: {waited:?}");
        goes_on.write_all(b"y").await.expect("open");
        assert_eq!(timeout(PATIENCE, goes_on.read_u8()).await.expect("in time").expect("an echo"), b'y');
    });
}
