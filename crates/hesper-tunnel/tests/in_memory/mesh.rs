//! A mesh in memory: each dial of a service gets what the test says.

use bytes::Bytes;
use hesper_sdk::{Copied, DialError, DialOptions, Sent};
use hesper_tunnel::{Dialer, Flow};
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, DuplexStream, copy_bidirectional, duplex},
    net::TcpStream,
    sync::mpsc,
};

/// What one dial asked for.
pub(crate) type Dialed = (String, DialOptions);

/// What a dial of a service does.
#[derive(Clone)]
pub(crate) enum Answer {
    Stream(mpsc::UnboundedSender<DuplexStream>),
    Datagrams(mpsc::UnboundedSender<MemoryFlow>),
    Error(DialError),
    Never,
}

/// One end of a flow of datagrams. What is longer than 1200 is too long, as on a narrow path.
pub(crate) struct MemoryFlow {
    to: mpsc::UnboundedSender<Bytes>,
    from: mpsc::UnboundedReceiver<Bytes>,
}

impl Flow for MemoryFlow {
    fn send(&self, payload: &[u8]) -> io::Result<Sent> {
        if payload.len() > 1200 {
            return Ok(Sent::TooLong { max: 1200 });
        }
        let sent = self.to.send(Bytes::copy_from_slice(payload));
        sent.map(|()| Sent::Yes).map_err(|_| io::ErrorKind::PermissionDenied.into())
    }

    async fn recv(&mut self) -> io::Result<Option<Bytes>> {
        Ok(self.from.recv().await)
    }

    fn dropped(&self) -> u64 {
        0
    }
}

#[derive(Clone, Default)]
pub(crate) struct Mesh {
    pub(crate) answers: Arc<Mutex<HashMap<String, Answer>>>,
    pub(crate) dialed: Arc<Mutex<Vec<Dialed>>>,
    pub(crate) max_idle: Option<Duration>,
}

impl Dialer for Mesh {
    type Stream = DuplexStream;
    type Flow = MemoryFlow;

    async fn dial(&self, service: &str, options: DialOptions) -> Result<DuplexStream, DialError> {
        let timeout = options.timeout;
        self.dialed.lock().expect("lock").push((service.to_owned(), options));
        let answer = self.answers.lock().expect("lock").get(service).cloned();
        match answer {
            Some(Answer::Stream(targets)) => {
                let (near, far) = duplex(64 * 1024);
                targets.send(far).map_err(|_| DialError::Shutdown)?;
                Ok(near)
            }
            Some(Answer::Datagrams(_)) => panic!("{service} is for datagrams"),
            Some(Answer::Error(error)) => Err(error),
            Some(Answer::Never) => {
                tokio::time::sleep(timeout).await;
                Err(DialError::Timeout { service: service.to_owned(), after: timeout, last: "test".into() })
            }
            None => panic!("{service} was not to be dialed"),
        }
    }

    async fn dial_datagrams(&self, service: &str, options: DialOptions) -> Result<MemoryFlow, DialError> {
        self.dialed.lock().expect("lock").push((service.to_owned(), options));
        let answer = self.answers.lock().expect("lock").get(service).cloned();
        match answer {
            Some(Answer::Datagrams(targets)) => {
                let ((to, far_from), (far_to, from)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
                targets.send(MemoryFlow { to: far_to, from: far_from }).map_err(|_| DialError::Shutdown)?;
                Ok(MemoryFlow { to, from })
            }
            Some(Answer::Error(error)) => Err(error),
            _ => panic!("{service} is not for datagrams"),
        }
    }

    fn max_idle(&self, _: &str) -> Option<Duration> {
        self.max_idle
    }

    async fn splice(mut stream: DuplexStream, mut tcp: TcpStream, head: Bytes) -> io::Result<Copied> {
        stream.write_all(&head).await?;
        let (received, sent) = copy_bidirectional(&mut stream, &mut tcp).await?;
        Ok(Copied { sent, received })
    }
}

impl Mesh {
    /// What the next dials of a service get.
    pub(crate) fn set(&self, service: &str, answer: Answer) {
        self.answers.lock().expect("lock").insert(service.into(), answer);
    }

    /// A service that answers; its ends of the streams come out of the receiver.
    pub(crate) fn target(&self, service: &str) -> mpsc::UnboundedReceiver<DuplexStream> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.set(service, Answer::Stream(sender));
        receiver
    }

    /// The same with datagrams.
    pub(crate) fn udp_target(&self, service: &str) -> mpsc::UnboundedReceiver<MemoryFlow> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.set(service, Answer::Datagrams(sender));
        receiver
    }

    /// Every dial so far.
    pub(crate) fn dialed(&self) -> Vec<Dialed> {
        self.dialed.lock().expect("lock").clone()
    }
}
