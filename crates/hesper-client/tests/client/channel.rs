//! The control channel and renewal over it.

use crate::server::*;
use futures::stream::Empty;
use hesper_client::{
    channel::{ChannelError, ControlChannel, connect_error},
    connect::ConnectError,
    keeper::Keeper,
    renewal::{RenewAs, RenewError, keep_renewed, next_renewal, renew},
};
use hesper_pki::{csr, identity_file::IdentityFile, spiffe::SpiffeRole};
use hesper_proto::control::{
    BindRequest, BindResponse, DialRequest, DialResponse, NodeReport, NodeUpdate, RenewRequest,
    RenewResponse, UnbindRequest, UnbindResponse, UpdateTerminatorRequest, UpdateTerminatorResponse,
    node_control_client::NodeControlClient,
    node_control_server::{NodeControl, NodeControlServer},
};
use proptest::prelude::*;
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
};
use tonic::{Code, Request, Response, Status, Streaming};

/// Renews for a certain identity; everything else is unimplemented.
struct Renewing {
    network: Arc<Network>,
    id: &'static str,
    validity: Duration,
}

#[tonic::async_trait]
impl NodeControl for Renewing {
    type WatchStream = Empty<Result<NodeUpdate, Status>>;

    async fn watch(&self, _: Request<Streaming<NodeReport>>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("watch"))
    }
    async fn dial(&self, _: Request<DialRequest>) -> Result<Response<DialResponse>, Status> {
        Err(Status::unimplemented("dial"))
    }
    async fn bind(&self, _: Request<BindRequest>) -> Result<Response<BindResponse>, Status> {
        Err(Status::unimplemented("bind"))
    }
    async fn unbind(&self, _: Request<UnbindRequest>) -> Result<Response<UnbindResponse>, Status> {
        Ok(Response::new(UnbindResponse {}))
    }
    async fn update_terminator(
        &self,
        _: Request<UpdateTerminatorRequest>,
    ) -> Result<Response<UpdateTerminatorResponse>, Status> {
        Err(Status::unimplemented("update"))
    }
    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let spki = csr::public_key(&request.into_inner().csr_der)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let chain_pem = self.network.chain(SpiffeRole::Identity, self.id, &spki, self.validity);
        Ok(Response::new(RenewResponse { chain_pem, ca_pem: self.network.ca.ca_pem() }))
    }
}

struct Controller {
    url: String,
    /// Serial of each connection's client, and the connection.
    seen: UnboundedReceiver<(String, JoinHandle<()>)>,
    accepting: JoinHandle<()>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn controller(network: &Arc<Network>, id: &'static str, validity: Duration) -> Controller {
    let (listener, address) = listen().await;
    let (sender, seen) = unbounded_channel();
    let service = NodeControlServer::new(Renewing { network: network.clone(), id, validity });
    let routes = tonic::service::Routes::new(service);
    let accepting = serve_grpc(listener, network.controller(), routes, sender).await;
    Controller { url: format!("https://127.0.0.1:{}", address.port()), seen, accepting }
}

fn alice(network: &Network, validity: Duration) -> Keeper {
    let current = network.credentials(SpiffeRole::Identity, "alice", validity).current();
    let file = IdentityFile::new(&[], &current.chain_pem(), &current.key, &current.ca_pem);
    Keeper::new(file, None).unwrap()
}

async fn call(control: &ControlChannel) -> Result<(), Status> {
    let mut request = Request::new(UnbindRequest::default());
    request.set_timeout(Duration::from_secs(10));
    NodeControlClient::new(control.channel()).unbind(request).await.map(drop)
}

/// Calls until it works: a connection that was just cut may fail one call.
async fn call_until_it_works(control: &ControlChannel) {
    tokio::time::timeout(Duration::from_secs(10), async { while call(control).await.is_err() {} })
        .await
        .unwrap();
}

#[tokio::test]
async fn renewed_credentials_are_shown_at_the_next_connect() {
    let network = Network::new();
    let mut controller = controller(&network, "alice", HOUR).await;
    let keeper = alice(&network, HOUR);
    let credentials = keeper.credentials();
    let first = credentials.current().serial.clone();
    let control = ControlChannel::new(&[&controller.url], credentials.clone()).unwrap();
    call(&control).await.unwrap();
    call(&control.clone()).await.unwrap();
    let (serial, connection) = controller.seen.recv().await.unwrap();
    assert_eq!(serial, first);

    let renewed = renew(RenewAs::Node, &control, &keeper, OffsetDateTime::now_utc()).await.unwrap();
    let second = credentials.current();
    assert_ne!(second.serial, first);
    assert_eq!(second.serial, renewed.serial);
    assert!(controller.seen.try_recv().is_err(), "all of it over one connection");

    connection.abort();
    call_until_it_works(&control).await;
    assert_eq!(controller.seen.recv().await.unwrap().0, second.serial);
}

#[tokio::test]
async fn a_bad_answer_changes_nothing() {
    let network = Network::new();
    let controller = controller(&network, "bob", HOUR).await;
    let keeper = alice(&network, HOUR);
    let credentials = keeper.credentials();
    let before = credentials.current().serial.clone();
    let control = ControlChannel::new(&[&controller.url], credentials.clone()).unwrap();
    let now = OffsetDateTime::now_utc();
    let error = renew(RenewAs::Node, &control, &keeper, now).await.unwrap_err();
    assert!(matches!(&error, RenewError::OtherSubject(name) if name.ends_with("/identity/bob")), "{error:?}");
    // A node controller does not serve routers.
    let error = renew(RenewAs::Router, &control, &keeper, now).await.unwrap_err();
    assert!(matches!(&error, RenewError::Call(status) if status.code() == Code::Unimplemented), "{error:?}");
    assert_eq!(credentials.current().serial, before);
}

#[tokio::test]
async fn the_next_controller_is_tried_and_faults_are_named() {
    let network = Network::new();
    let mut alive = controller(&network, "alice", HOUR).await;
    let (closed, address) = listen().await;
    drop(closed);
    let dead = format!("https://127.0.0.1:{}", address.port());
    let credentials = alice(&network, HOUR).credentials().clone();
    let control = ControlChannel::new(&[&dead, &alive.url], credentials.clone()).unwrap();
    call(&control).await.unwrap();
    alive.seen.recv().await.unwrap();

    let control = ControlChannel::new(&[&dead], credentials.clone()).unwrap();
    let status = call(&control).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(matches!(connect_error(&status), Some(ConnectError::Tcp { .. })), "{status:?}");
    assert_eq!(connect_error(&Status::unavailable("other")).map(ToString::to_string), None);
    let stranger = controller(&Network::new(), "alice", HOUR).await;
    let control = ControlChannel::new(&[&stranger.url], credentials.clone()).unwrap();
    let status = call(&control).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(matches!(connect_error(&status), Some(ConnectError::Tls { .. })), "{status:?}");

    assert!(matches!(ControlChannel::new(&["http://c"], credentials.clone()), Err(ChannelError::Url(_))));
    assert!(matches!(ControlChannel::new::<&str>(&[], credentials), Err(ChannelError::NoController)));
}

#[tokio::test]
async fn a_certificate_is_renewed_again_and_again_before_it_ends() {
    let network = Network::new();
    let short = Duration::from_secs(4);
    let controller = controller(&network, "alice", short).await;
    let keeper = alice(&network, short);
    let credentials = keeper.credentials().clone();
    let control = ControlChannel::new(&[&controller.url], credentials.clone()).unwrap();
    let task = tokio::spawn(keep_renewed(RenewAs::Node, control, keeper));
    for _ in 0..2 {
        let before = credentials.current();
        tokio::time::timeout(Duration::from_secs(30), async {
            while credentials.current().serial == before.serial {
                assert!(OffsetDateTime::now_utc() < before.not_after, "renewed too late");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        assert!(credentials.current().not_after > before.not_after);
    }
    task.abort();
}

proptest! {
    #[test]
    fn renewal_is_due_at_half_life_give_or_take_a_tenth(begin in 0i64..4_000_000_000, life in 1i64..400_000_000, jitter in 0.0..=1.0f64) {
        let from = OffsetDateTime::from_unix_timestamp(begin).unwrap();
        let until = from + time::Duration::seconds(life);
        let due = (next_renewal(from, until, jitter) - from).as_seconds_f64() / life as f64;
        prop_assert!((0.4499..=0.5501).contains(&due), "{due}");
        prop_assert!(next_renewal(from, until, 0.0) <= next_renewal(from, until, jitter));
    }
}
