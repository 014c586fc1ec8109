//! What is under way when permission is withdrawn, and how it must end: broken, never as if it were whole.

use hesper_integration::{Oracle, Place, Plan, Stack, Transfer, http, wait_for, wait_until};
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// What is withdrawn is over after a second; a machine with other things to do may take longer.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// How long a connection may keep silent before it counts as open.
const SILENCE: Duration = Duration::from_secs(20);
/// Of a stream that is busy.
const RATE: u64 = 128 << 10;
/// Between two words of a scrape's answer, and between two datagrams.
const PAUSE: Duration = Duration::from_millis(40);
/// Datagrams of a flow that lives, in whose time one that lives would have carried some too.
const DATAGRAMS: u64 = 25;

/// A transfer that must break, and what must have seen a reset.
pub(crate) struct Doomed {
    what: String,
    transfer: Transfer,
    /// Halves that only read: a system call tells the reset to one of two that share a connection.
    readers: &'static [&'static str],
}

impl Doomed {
    /// Nothing moves on it.
    pub(crate) fn idle(oracle: &Oracle, place: &Place, via: SocketAddr) -> Self {
        let transfer = oracle.transfer_from(place, via, Plan::until_stopped().rate(1));
        Self::of("idle", transfer, &["the server receives", "the client receives"])
    }

    /// Something moves all the time, either way.
    pub(crate) fn busy(oracle: &Oracle, place: &Place, via: SocketAddr) -> [Self; 2] {
        let plan = Plan::until_stopped().rate(RATE);
        let (up, down) = (plan.up_only(), plan.down_only());
        [
            Self::of("up", oracle.transfer_from(place, via, up), &["the server receives"]),
            Self::of("down", oracle.transfer_from(place, via, down), &["the client receives"]),
        ]
    }

    /// As many bytes as there is room for.
    pub(crate) fn bulk(oracle: &Oracle, place: &Place, via: SocketAddr) -> Self {
        let plan = Plan::until_stopped().down_only();
        Self::of("bulk", oracle.transfer_from(place, via, plan), &["the client receives"])
    }

    /// Over a connection of any kind, idle.
    pub(crate) fn over(what: &str, oracle: &Oracle, stream: TcpStream) -> Self {
        let transfer = oracle.transfer_over(stream, Plan::until_stopped().rate(1));
        Self::of(what, transfer, &["the server receives", "the client receives"])
    }

    fn of(what: &str, transfer: Transfer, readers: &'static [&'static str]) -> Self {
        Self { what: what.to_owned(), transfer, readers }
    }

    /// Waits until bytes have moved, so that it is known to be open.
    pub(crate) fn is_open(&self) {
        wait_until(&format!("{} is open", self.what), Stack::PATIENCE, || {
            let (up, down) = self.transfer.received();
            assert!(!self.transfer.is_over(), "{}: {:?}", self.what, self.transfer.fault());
            up + down > 0
        });
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.transfer.is_over()
    }

    /// What each end saw, once it saw something.
    pub(crate) fn faults(&self) -> HashMap<&'static str, String> {
        self.transfer.faults()
    }

    /// Bytes of payload so far.
    pub(crate) fn moved(&self) -> u64 {
        let (up, down) = self.transfer.received();
        up + down
    }

    /// Broken at both ends, and both ends know that it is?
    fn broke(&self) -> Result<(), String> {
        let faults = self.transfer.faults();
        for reader in self.readers {
            let fault = faults.get(reader).ok_or_else(|| format!("{}: {reader} still", self.what))?;
            assert!(fault.contains("broke"), "{}: {reader}: no reset but an end: {fault}", self.what);
        }
        // Where one end only reads, the other one only writes.
        if faults.len() < 2 {
            return Err(format!("{}: only one end: {faults:?}", self.what));
        }
        Ok(())
    }
}

/// Waits until all of them are broken, and says after which time since `begun` the last one was.
#[track_caller]
pub(crate) fn all_break(what: &str, begun: Instant, doomed: &[Doomed]) -> Duration {
    all_break_within(what, begun, SOON, doomed)
}

/// The same with another patience.
#[track_caller]
pub(crate) fn all_break_within(what: &str, begun: Instant, within: Duration, doomed: &[Doomed]) -> Duration {
    wait_for(&format!("{what}: streams end at both ends"), within, || {
        doomed.iter().try_for_each(Doomed::broke)
    });
    begun.elapsed()
}

/// The survivors of a test: not one byte may be missing.
pub(crate) struct Survivors(Vec<(String, Transfer)>);

impl Survivors {
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn add(&mut self, what: &str, oracle: &Oracle, place: &Place, via: SocketAddr) {
        let transfer = oracle.transfer_from(place, via, Plan::until_stopped().rate(RATE));
        self.0.push((what.to_owned(), transfer));
    }

    /// They go on: more bytes arrive than before.
    #[track_caller]
    pub(crate) fn go_on(&self) {
        for (what, transfer) in &self.0 {
            let before = transfer.received();
            wait_until(&format!("{what} goes on"), Stack::PATIENCE, || {
                assert!(!transfer.is_over(), "{what}: {:?}", transfer.fault());
                let now = transfer.received();
                now.0 > before.0 && now.1 > before.1
            });
        }
    }

    /// They end well.
    #[track_caller]
    pub(crate) fn finish(self) {
        for (what, transfer) in self.0 {
            match transfer.outcome(Stack::PATIENCE) {
                Ok(report) => println!("survivor {what}: {report}"),
                Err(fault) => panic!("survivor {what}: {fault}"),
            }
        }
    }
}

/// A target that answers scrapes with a body that never ends and whose length nobody knows.
pub(crate) struct Scraped {
    pub(crate) address: SocketAddr,
    /// Answers under way.
    open: Arc<AtomicU64>,
}

impl Scraped {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let open = Arc::new(AtomicU64::new(0));
        let count = open.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let count = count.clone();
                thread::spawn(move || {
                    count.fetch_add(1, Relaxed);
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n";
                    let mut done = match stream.read(&mut [0; 4096]) {
                        Ok(0) | Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(_) => stream.write_all(head.as_bytes()),
                    };
                    while done.is_ok() {
                        thread::sleep(PAUSE);
                        done = stream.write_all(b"sample 1\n");
                    }
                    count.fetch_sub(1, Relaxed);
                });
            }
        });
        Self { address, open }
    }

    /// Answers under way.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }
}

/// A scrape in its middle, through the HTTP proxy.
pub(crate) struct Scrape(Arc<Mutex<Answer>>);

#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
    over: bool,
}

impl Scrape {
    pub(crate) fn begin(proxy: SocketAddr, service: &str) -> Self {
        let mut stream = TcpStream::connect(proxy).expect("the proxy listens");
        let request = format!("GET http://{service}/metrics HTTP/1.1\r\nhost: {service}\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        stream.set_read_timeout(Some(SILENCE)).expect("set");
        let answer: Arc<Mutex<Answer>> = Arc::default();
        let scrape = Self(answer.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let read = stream.read(&mut buffer);
                let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
                match read {
                    Ok(count) if count > 0 => answer.bytes.extend_from_slice(&buffer[..count]),
                    _ => {
                        answer.over = true;
                        return;
                    }
                }
            }
        });
        wait_for("the scrape is in its middle", Stack::PATIENCE, || {
            let text = scrape.text();
            if text.contains("sample 1\n") { Ok(()) } else { Err(text) }
        });
        assert!(scrape.text().starts_with("HTTP/1.1 200"), "{}", scrape.text());
        scrape
    }

    fn text(&self) -> String {
        let answer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&answer.bytes).into_owned()
    }

    pub(crate) fn goes_on(&self) {
        let before = self.text().len();
        wait_until("the scrape goes on", Stack::PATIENCE, || self.text().len() > before);
    }

    /// Waits until it is over: in the middle, so that nobody takes it for a whole answer.
    #[track_caller]
    pub(crate) fn breaks(&self, what: &str) {
        wait_until(&format!("{what}: the scrape ends"), SOON, || {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).over
        });
        let text = self.text();
        assert!(text.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{text}");
        assert!(!text.ends_with("0\r\n\r\n"), "{what}: a cut answer looks whole");
    }
}

/// A tunnel through the HTTP proxy.
pub(crate) fn connect(proxy: SocketAddr, service: &str) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(proxy).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(SILENCE)).map_err(|e| e.to_string())?;
    let request = format!("CONNECT {service}:80 HTTP/1.1\r\nhost: {service}:80\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let mut head = String::new();
    // Nothing comes behind the head: the target waits for the client.
    let mut reader = BufReader::with_capacity(1, stream.try_clone().map_err(|e| e.to_string())?);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).map_err(|e| e.to_string())? == 0 {
            return Err(head);
        }
    }
    if head.starts_with("HTTP/1.1 200") { Ok(stream) } else { Err(head) }
}

/// Gives datagrams back, for as long as the test runs.
pub(crate) fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    });
    address
}

/// A client that sends datagrams all the time, and counts what comes back.
pub(crate) struct Flow {
    echoes: Arc<AtomicU64>,
    last: Arc<Mutex<Instant>>,
    over: Arc<AtomicBool>,
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

impl Flow {
    pub(crate) fn begin(via: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(via).expect("connected");
        socket.set_read_timeout(Some(PAUSE)).expect("set");
        let (echoes, last) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Instant::now())));
        let over = Arc::new(AtomicBool::new(false));
        let flow = Self { echoes: echoes.clone(), last: last.clone(), over: over.clone() };
        thread::spawn(move || {
            let mut buffer = [0; 64];
            for number in (0u64..).take_while(|_| !over.load(Relaxed)) {
                let _ = socket.send(&number.to_be_bytes());
                if socket.recv(&mut buffer).is_ok() {
                    echoes.fetch_add(1, Relaxed);
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                    thread::sleep(PAUSE);
                }
            }
        });
        wait_until("datagrams come back", Stack::PATIENCE, || flow.echoes() > 2);
        flow
    }

    fn echoes(&self) -> u64 {
        self.echoes.load(Relaxed)
    }

    pub(crate) fn goes_on(&self) {
        let before = self.echoes();
        wait_until("datagrams come back", Stack::PATIENCE, || self.echoes() > before);
    }

    /// Waits until nothing comes back, while datagrams of `other` do; says when the last one came.
    #[track_caller]
    pub(crate) fn ends(&self, what: &str, begun: Instant, other: &Self) -> Duration {
        let mut mark = (self.echoes(), other.echoes());
        wait_until(&format!("{what}: no datagram comes back"), Stack::PATIENCE, || {
            let now = (self.echoes(), other.echoes());
            if now.0 != mark.0 {
                mark = now;
            }
            now.1 >= mark.1 + DATAGRAMS
        });
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let after = last.saturating_duration_since(begun);
        assert!(after < SOON, "{what}: datagrams came back for {after:?}");
        after
    }
}

/// A new connection is refused: by a reset, before a byte came.
#[track_caller]
pub(crate) fn refused(place: &Place, listener: SocketAddr, what: &str) {
    let attempt = || -> io::Result<usize> {
        let mut stream = place.connect(listener)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.read(&mut [0; 1])
    };
    match attempt() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        other => panic!("{what}: a new stream is not refused: {other:?}"),
    }
}

/// What the HTTP proxy answers for a service: status, its word, and the body without the service's name.
pub(crate) fn answer(proxy: SocketAddr, service: &str) -> (u16, String, String) {
    let response = http::curl(None, &["-x", &format!("http://{proxy}"), &format!("http://{service}/")]);
    let response = response.expect("the proxy itself answers");
    let word = response.header("x-hesper-error").unwrap_or_default().to_owned();
    (response.status, word, response.body.replace(service, "?"))
}

/// Events of the controller's audit log.
pub(crate) fn audited(stack: &Stack, event: &str) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(stack.path("controller/audit.jsonl")).expect("an audit log");
    // The last line may be in the middle of being written.
    let events = text.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok());
    events.filter(|e| e["event"] == event).collect()
}

/// The administrator is told which rule was missing.
#[track_caller]
pub(crate) fn rule_is_named(stack: &Stack, event: &str, service: &str, rule: &str) {
    wait_for(&format!("the audit log names the rule: {rule}"), Stack::PATIENCE, || {
        let events = audited(stack, event);
        let denied: Vec<_> =
            events.iter().filter(|e| e["outcome"] == "denied" && e["service"] == service).collect();
        let named = denied.iter().any(|e| e["rule"].as_str().is_some_and(|r| r.contains(rule)));
        if named { Ok(()) } else { Err(format!("{denied:?}")) }
    });
}
