//! A node attached to a router by hand: the conversation of hesper-overlay's `attach` on a socket that stays ours, so that packets can be
//! sent from the attached address without the cost of a QUIC connection behind them.

use crate::watch::Watch;
use anyhow::{Context, Result, bail};
use hesper_model::id::Tag;
use hesper_overlay::{
    frame::{MAX_MESSAGE_LEN, read_message, write_message},
    knock,
    transport::{attach_transport, client_config, endpoint_config},
};
use hesper_pki::tls;
use hesper_proto::{
    control::AttachPoint,
    overlay::{AttachHello, FromNode, FromRouter, PassResult, PresentPass, from_node, from_router},
};
use quinn::{Connection, ConnectionId, Endpoint, RecvStream, SendStream, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const BUFFER: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct AttachedNode {
    /// Bound and connected to the router: what is sent here comes from the attached address.
    pub(crate) socket: UdpSocket,
    /// The tag of the session.
    pub(crate) tag: Tag,
    _endpoint: Endpoint,
    _connection: Connection,
    send: SendStream,
    recv: RecvStream,
}

/// The first router of a node's state, where to find it, and a socket towards it.
fn towards(watch: &Watch) -> Result<(&AttachPoint, SocketAddr, UdpSocket)> {
    let router = watch.first.routers.first().context("the identity may use no router")?;
    let address: SocketAddr = router.addresses.first().context("the router has no address")?.parse()?;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok((router, address, socket.into()))
}

/// Begins a handshake with the router, with a good knock.
fn begin(
    watch: &Watch,
    endpoint: &Endpoint,
    router: &AttachPoint,
    to: SocketAddr,
) -> Result<quinn::Connecting> {
    let expected = watch.credentials.current().id.router(&router.router_id)?;
    let key_id: [u8; 8] = router.knock_key_id.as_slice().try_into()?;
    let key: [u8; 32] = router.knock_key.as_slice().try_into()?;
    let first_dcid = move || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        ConnectionId::new(&knock::make(key_id, &key, now, rand::random()))
    };
    let config =
        client_config(tls::peer_client(watch.credentials.clone(), expected), attach_transport(), first_dcid)?;
    Ok(endpoint.connect_with(config, to, "hesper")?)
}

fn endpoint(tag: Tag, socket: &UdpSocket) -> Result<Endpoint> {
    Ok(Endpoint::new(endpoint_config(tag), None, socket.try_clone()?, Arc::new(TokioRuntime))?)
}

fn tag_of(watch: &Watch) -> Result<Tag> {
    let session = watch.first.session.as_ref().context("no session")?;
    Tag::from_slice(&session.tag).context("a tag has 8 bytes")
}

impl AttachedNode {
    /// Attaches to the first router of the node's state.
    pub(crate) async fn attach(watch: &Watch) -> Result<Self> {
        let (router, to, socket) = towards(watch)?;
        let tag = tag_of(watch)?;
        let endpoint = endpoint(tag, &socket)?;
        let attaching = async {
            let connection = begin(watch, &endpoint, router, to)?.await?;
            let (mut send, mut recv) = connection.open_bi().await?;
            let session_token = watch.first.session.as_ref().map(|s| s.token.clone()).unwrap_or_default();
            let hello = from_node::Message::Hello(AttachHello { session_token });
            write_message(&mut send, &FromNode { message: Some(hello) }).await?;
            match read_message::<FromRouter>(&mut recv, MAX_MESSAGE_LEN).await?.message {
                Some(from_router::Message::Accepted(_)) => anyhow::Ok((connection, send, recv)),
                other => bail!("the router did not accept: {other:?}"),
            }
        };
        let (connection, send, recv) =
            tokio::time::timeout(PATIENCE, attaching).await.context("the router is silent")??;
        watch.report_attached(&router.router_id).await?;
        socket.connect(to)?;
        Ok(Self { socket, tag, _endpoint: endpoint, _connection: connection, send, recv })
    }

    /// Presents a pass and waits until the pair is open.
    pub(crate) async fn present(&mut self, pass: String) -> Result<()> {
        let present = from_node::Message::Pass(PresentPass { request_id: 1, pass, ..PresentPass::default() });
        write_message(&mut self.send, &FromNode { message: Some(present) }).await?;
        loop {
            let heard =
                tokio::time::timeout(PATIENCE, read_message::<FromRouter>(&mut self.recv, MAX_MESSAGE_LEN));
            match heard.await.context("no answer to the pass")??.message {
                Some(from_router::Message::PassResult(PassResult { error, .. })) if error.is_empty() => {
                    return Ok(());
                }
                Some(from_router::Message::PassResult(PassResult { error, .. })) => {
                    bail!("the pass opens nothing: {error}")
                }
                _ => {}
            }
        }
    }
}

/// Begins handshakes with the router and dies in the middle of each: gives up after the first packets, `per_second` times a second,
/// for as long as it is polled.
pub(crate) async fn half_handshakes(watch: &Watch, per_second: u32) -> Result<()> {
    let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second);
    loop {
        tick.tick().await;
        let (router, to, socket) = towards(watch)?;
        let endpoint = endpoint(tag_of(watch)?, &socket)?;
        let connecting = begin(watch, &endpoint, router, to)?;
        tokio::spawn(async move {
            // Time for the router's first flight; then the socket is gone without a word.
            let _ = tokio::time::timeout(Duration::from_millis(2), connecting).await;
            endpoint.close(0u8.into(), b"");
        });
    }
}
