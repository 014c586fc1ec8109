//! The controller's side of `RouterControl` and nothing else of a controller: gives one router its state, takes its status.

use hesper_pki::{credentials::SharedCredentials, tls};
use hesper_proto::control::{
    RenewRequest, RenewResponse, RouterReport, RouterRevoked, RouterState, RouterStatus, RouterUpdate,
    router_control_server::{RouterControl, RouterControlServer},
    router_report, router_update,
};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Runtime,
    sync::{broadcast, mpsc, watch},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::server::Connected};

/// Runs until dropped, in a runtime of its own, so that then every connection is gone at once, as after `kill -9`.
pub(crate) struct Controller {
    pub(crate) addr: SocketAddr,
    pub(crate) revocations: broadcast::Sender<RouterRevoked>,
    pub(crate) status: watch::Receiver<RouterStatus>,
    /// What the router is told: at once, and again whenever it changes.
    pub(crate) state: watch::Sender<RouterState>,
    runtime: Option<Runtime>,
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Controller {
    pub(crate) fn start(listen: SocketAddr, credentials: SharedCredentials, state: RouterState) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = {
            let _inside = runtime.enter();
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(listen).unwrap();
            socket.listen(16).unwrap()
        };
        let addr = listener.local_addr().unwrap();
        let (revocations, _) = broadcast::channel(16);
        let (reported, status) = watch::channel(RouterStatus::default());
        let state = watch::Sender::new(state);
        let service =
            Service { state: state.clone(), revocations: revocations.clone(), reported: Arc::new(reported) };
        runtime.spawn(serve(listener, credentials, service));
        Self { addr, revocations, status, state, runtime: Some(runtime) }
    }

    pub(crate) async fn wait_for_status(&mut self, wanted: impl FnMut(&RouterStatus) -> bool) {
        self.status.wait_for(wanted).await.unwrap();
    }
}

async fn serve(listener: TcpListener, credentials: SharedCredentials, service: Service) {
    let acceptor = TlsAcceptor::from(Arc::new(tls::controller_server(credentials)));
    let (accepted, connections) = mpsc::channel::<io::Result<Io>>(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(
        tonic::transport::Server::builder()
            .add_service(RouterControlServer::new(service))
            .serve_with_incoming(ReceiverStream::new(connections)),
    );
    while let Ok((stream, _)) = listener.accept().await {
        if let Ok(stream) = acceptor.accept(stream).await {
            accepted.send(Ok(Io(stream))).await.unwrap();
        }
    }
}

struct Io(TlsStream<TcpStream>);

impl Connected for Io {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}
impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context, buf: &mut ReadBuf) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}
impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct Service {
    state: watch::Sender<RouterState>,
    revocations: broadcast::Sender<RouterRevoked>,
    reported: Arc<watch::Sender<RouterStatus>>,
}

#[tonic::async_trait]
impl RouterControl for Service {
    type WatchStream = ReceiverStream<Result<RouterUpdate, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<RouterReport>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut reports = request.into_inner();
        let (updates, stream) = mpsc::channel(16);
        let mut states = self.state.subscribe();
        states.mark_changed();
        let (mut revocations, reported) = (self.revocations.subscribe(), self.reported.clone());
        tokio::spawn(async move {
            let hello = reports.message().await.unwrap().and_then(|r| r.report);
            assert!(
                matches!(hello, Some(router_report::Report::Hello(h)) if !h.addresses.is_empty()),
                "the first report is hello"
            );
            loop {
                tokio::select! {
                    report = reports.message() => match report.ok().flatten().and_then(|r| r.report) {
                        Some(router_report::Report::Status(status)) => drop(reported.send_replace(status)),
                        Some(router_report::Report::Trusting(_)) => {}
                        _ => return,
                    },
                    Ok(()) = states.changed() => {
                        let update = Some(router_update::Update::State(states.borrow_and_update().clone()));
                        updates.send(Ok(RouterUpdate { update })).await.unwrap();
                    }
                    Ok(revoked) = revocations.recv() => {
                        let update = Some(router_update::Update::Revoked(revoked));
                        updates.send(Ok(RouterUpdate { update })).await.unwrap();
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(Status::unimplemented("no test needs it"))
    }
}
