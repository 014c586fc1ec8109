//! The parameters of QUIC, chosen once for everybody.
//!
//! Switched off everywhere: 0-RTT and resumption (they skip the verification of the peer; see hesper-pki, `tls`), Retry and address
//! tokens (behind a router every peer has the same address), migration between nodes (the path is chosen below QUIC), the greased
//! fixed bit (routers drop what has it cleared), other versions than 1; and datagrams except between nodes, where they carry UDP.

use crate::{
    cid::TagGenerator,
    congestion::Roomy,
    memory::{BLOCK, LEAST},
};
use hesper_model::id::Tag;
use quinn::{
    ClientConfig, ConnectionId, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig,
    TransportConfig, ValidationTokenConfig, VarInt,
    crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

/// The address that QUIC sees for every peer of a node, routers included (from the benchmarking range of RFC 2544, never routed).
pub const VIRTUAL_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), 1);

/// Longest time that a handshake may take, on either side.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// The round trip between two nodes before it has been measured: what is lost of a handshake is sent again after three times this, and then
/// after twice as long each time. RFC 9002 (6.2.2) proposes a third of a second for any network; a dial whose first packet met a NAT that had
/// forgotten the node is not to wait for that. Nodes further apart send a packet or two in vain.
const FIRST_RTT: Duration = Duration::from_millis(100);
/// Pause after which an idle connection is probed.
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// Silence after which a peer connection is given up. Long enough for a router to be restarted in between.
pub const PEER_IDLE: Duration = Duration::from_secs(30);
/// Silence after which an attach connection is given up: the node then looks for the router anew.
pub const ATTACH_IDLE: Duration = Duration::from_secs(10);

/// Streams that one dialer may have open at one binder.
pub const MAX_STREAMS: u32 = 4096;
/// Streams that it may have open at first: QUIC keeps 84 bytes for each stream that may come (340 KiB for all of [`MAX_STREAMS`]), so a
/// hosting node gives a dialer more only as it uses them.
pub const FIRST_STREAMS: u32 = 64;
/// What one stream may have in flight and unread: 4 Gbit/s with 16 ms between the nodes; less slows a single stream down.
pub const STREAM_WINDOW: u32 = 8 << 20;
/// What one connection may hold unread in all, unless the node has given away too much of its `memory`. Eight streams whose readers have stopped fill it and
/// then hold up the others of the same two nodes, and no one else's.
pub const CONNECTION_WINDOW: u32 = 64 << 20;
/// What one connection may keep unacknowledged for sending.
pub const SEND_WINDOW: u64 = 16 << 20;

/// Datagrams that one connection may hold before its reader is scheduled, and before the network takes them. Short: what waits long is
/// of little use to a program that chose UDP.
pub const DATAGRAM_RECEIVE_BUFFER: usize = 1 << 20;
/// See [`DATAGRAM_RECEIVE_BUFFER`].
pub const DATAGRAM_SEND_BUFFER: usize = 256 << 10;

/// Largest UDP payload between two nodes: an Ethernet jumbo frame less IPv6 and UDP headers. How much of it the path carries is found
/// out by probing; where frames are of 1500 bytes, the probes beyond are lost, which QUIC does not take for congestion.
pub const MAX_DATAGRAM: u16 = 9000 - 40 - 8;

/// Handshakes that may wait at one endpoint.
const MAX_INCOMING: usize = 1024;
/// What one handshake may buffer, and all of them together, before it is accepted.
const INCOMING_BUFFER: u64 = 64 << 10;
const INCOMING_BUFFER_TOTAL: u64 = 8 << 20;

/// Between two nodes: streams carry the traffic of services.
pub fn peer_transport() -> TransportConfig {
    let mut t = common(PEER_IDLE);
    t.initial_rtt(FIRST_RTT)
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .congestion_controller_factory(Arc::new(Roomy::default()))
        .max_concurrent_bidi_streams(FIRST_STREAMS.into())
        .mtu_discovery_config(Some(up_to_jumbo_frames()));
    t
}

/// As a connection of a node begins: its windows are as narrow as they come, and widened when its share of the node's memory is known.
/// The window of its streams and the buffers of its datagrams stay as they are chosen here.
pub(crate) fn narrow(mut t: TransportConfig, ample: bool) -> TransportConfig {
    t.receive_window(LEAST.into()).send_window(LEAST.into());
    if !ample {
        t.stream_receive_window(LEAST.into())
            .datagram_receive_buffer_size(Some(BLOCK as usize))
            .datagram_send_buffer_size(BLOCK as usize);
    }
    t
}

fn up_to_jumbo_frames() -> MtuDiscoveryConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MAX_DATAGRAM);
    discovery
}

/// The dialing side of it: the hosting side opens no streams.
pub fn dialer_transport() -> TransportConfig {
    let mut t = peer_transport();
    t.max_concurrent_bidi_streams(0u8.into());
    t
}

/// Between a node and a router: one stream of small messages. Nothing is gained by larger packets or batches of them, and each
/// connection would keep a buffer for them.
pub fn attach_transport() -> TransportConfig {
    let mut t = common(ATTACH_IDLE);
    t.stream_receive_window((256u32 << 10).into())
        .receive_window((256u32 << 10).into())
        .send_window(256 << 10)
        .max_concurrent_bidi_streams(1u8.into())
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false);
    t
}

fn common(idle: Duration) -> TransportConfig {
    let mut t = TransportConfig::default();
    t.max_concurrent_uni_streams(0u8.into())
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IdleTimeout::try_from(idle).ok())
        .mtu_discovery_config(Some(MtuDiscoveryConfig::default()));
    t
}

/// An endpoint whose connection ids all begin with `tag`.
pub fn endpoint_config(tag: Tag) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    // Fails only outside of the range that QUIC allows (RFC 9000, 18.2).
    let _ = config.max_udp_payload_size(MAX_DATAGRAM);
    config
        .cid_generator(move || Box::new(TagGenerator(tag)))
        .grease_quic_bit(false)
        .supported_versions(vec![1]);
    config
}

/// The accepting side. `migration`: true only where real addresses are seen (a router's attach endpoint).
pub fn server_config(
    tls: rustls::ServerConfig,
    transport: TransportConfig,
    migration: bool,
) -> Result<ServerConfig, NoInitialCipherSuite> {
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let mut no_tokens = ValidationTokenConfig::default();
    no_tokens.sent(0);
    config
        .transport_config(Arc::new(transport))
        .migration(migration)
        .validation_token_config(no_tokens)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL);
    Ok(config)
}

/// The connecting side; `first_dcid` makes the destination of the very first packets.
pub fn client_config(
    tls: rustls::ClientConfig,
    transport: TransportConfig,
    first_dcid: impl Fn() -> ConnectionId + Send + Sync + 'static,
) -> Result<ClientConfig, NoInitialCipherSuite> {
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(Arc::new(transport)).initial_dst_cid_provider(Arc::new(first_dcid));
    Ok(config)
}

/// Application close codes of our connections.
pub mod close {
    use super::VarInt;
    /// Nothing wrong: the side stops or no longer needs the connection.
    pub const DONE: VarInt = VarInt::from_u32(0);
    /// The peer broke the protocol.
    pub const PROTOCOL: VarInt = VarInt::from_u32(1);
    /// The peer may not (token, certificate, policy).
    pub const REFUSED: VarInt = VarInt::from_u32(2);
    /// The peer is taken for gone.
    pub const GONE: VarInt = VarInt::from_u32(3);
}
