//! Streams through the mesh that must not break: some that live for as long as the test does, and a new one all the time.

use hesper_integration::{Stack, wait_for};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Streams that live as long as the load.
const STREAMS: usize = 12;
/// How long one may keep silent before it counts as broken.
const SILENCE: Duration = Duration::from_secs(20);
/// Between two words on a stream.
const PAUSE: Duration = Duration::from_millis(25);

/// A program on loopback that sends back every line.
pub(crate) fn start_echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut writer = stream.try_clone().expect("a second handle");
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if writer.write_all(format!("{line}\n").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// A stream through the mesh.
struct Tunnel(BufReader<TcpStream>);

impl Tunnel {
    fn open(proxy: &str, service: &str) -> Result<Self, String> {
        let text = |e: std::io::Error| e.to_string();
        let mut stream = TcpStream::connect(proxy).map_err(text)?;
        stream.set_read_timeout(Some(SILENCE)).map_err(text)?;
        let head = format!("CONNECT {service}:80 HTTP/1.1\r\nhost: {service}:80\r\n\r\n");
        stream.write_all(head.as_bytes()).map_err(text)?;
        let mut tunnel = Self(BufReader::new(stream));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if tunnel.0.read_line(&mut head).map_err(text)? == 0 {
                return Err(format!("ended in its head: {head}"));
            }
        }
        if head.starts_with("HTTP/1.1 200") {
            return Ok(tunnel);
        }
        let mut body = String::new();
        let _ = tunnel.0.read_to_string(&mut body);
        Err(format!("{head}{body}"))
    }

    fn echoes(&mut self, word: &str) -> Result<(), String> {
        let line = format!("{word}\n");
        self.0.get_mut().write_all(line.as_bytes()).map_err(|e| e.to_string())?;
        let mut back = String::new();
        match self.0.read_line(&mut back) {
            Ok(_) if back == line => Ok(()),
            Ok(_) => Err(format!("sent {word:?}, came back {back:?}")),
            Err(e) => Err(e.to_string()),
        }
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    words: AtomicU64,
    opened: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Shared {
    fn failed(&self, what: String) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

/// The load; it ends with [`Load::stop`].
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins, once a stream gets through.
    pub(crate) fn start(proxy: &str, service: &'static str) -> Self {
        wait_for("a stream opens", Stack::PATIENCE, || Tunnel::open(proxy, service)?.echoes("first"));
        let shared = Arc::new(Shared::default());
        let mut threads = Vec::new();
        for number in 0..STREAMS {
            let (shared, mut tunnel) =
                (shared.clone(), Tunnel::open(proxy, service).expect("a stream opens"));
            threads.push(thread::spawn(move || {
                for round in 0u64.. {
                    if shared.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(e) = tunnel.echoes(&format!("{number} {round}")) {
                        return shared.failed(format!("stream {number} broke after {round} words: {e}"));
                    }
                    shared.words.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(PAUSE);
                }
            }));
        }
        let (opening, proxy) = (shared.clone(), proxy.to_owned());
        threads.push(thread::spawn(move || {
            while !opening.stop.load(Ordering::Relaxed) {
                let opened = Tunnel::open(&proxy, service).and_then(|mut tunnel| tunnel.echoes("a new one"));
                match opened {
                    Ok(()) => drop(opening.opened.fetch_add(1, Ordering::Relaxed)),
                    Err(e) => opening.failed(format!("a new stream: {e}")),
                }
                thread::sleep(4 * PAUSE);
            }
        }));
        Self { shared, threads }
    }

    /// Nothing has failed so far.
    #[track_caller]
    pub(crate) fn is_well(&self, when: &str) {
        let failures = self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(failures.is_empty(), "{when}: {failures:#?}");
    }

    /// Ends it; nothing may have failed.
    #[track_caller]
    pub(crate) fn stop(self) {
        self.is_well("at the end");
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        let (words, opened) =
            (self.shared.words.load(Ordering::Relaxed), self.shared.opened.load(Ordering::Relaxed));
        assert!(words > 0 && opened > 0, "{words} words, {opened} new streams");
        println!("{STREAMS} streams: {words} words; {opened} new streams");
    }
}
