//! A mesh in memory: each dial of a service gets what the test says.

use bytes::Bytes;
use hesper_sdk::{DialError, DialOptions};
use hesper_tunnel::Dialer;
use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
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
    Error(DialError),
    Never,
}

#[derive(Clone, Default)]
pub(crate) struct Mesh {
    pub(crate) answers: Arc<Mutex<HashMap<String, Answer>>>,
    pub(crate) dialed: Arc<Mutex<Vec<Dialed>>>,
}

impl Dialer for Mesh {
    type Stream = DuplexStream;

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
            Some(Answer::Error(error)) => Err(error),
            Some(Answer::Never) => {
                tokio::time::sleep(timeout).await;
                Err(DialError::Timeout { service: service.to_owned(), after: timeout, last: "test".into() })
            }
            None => panic!("{service} was not to be dialed"),
        }
    }

    async fn splice(mut stream: DuplexStream, mut tcp: TcpStream, head: Bytes) -> io::Result<()> {
        stream.write_all(&head).await?;
        copy_bidirectional(&mut stream, &mut tcp).await.map(drop)
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

    /// Every dial so far.
    pub(crate) fn dialed(&self) -> Vec<Dialed> {
        self.dialed.lock().expect("lock").clone()
    }
}
