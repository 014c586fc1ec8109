//! The control stream of a peer connection: renewals of grants from the dialer, and probes both ways.
//!
//! A probe makes the other side speak. After a router came back it is what ends the pause: QUIC by itself would resend only when its timer
//! fires, which by then may be as far away as the interruption was long; an answered probe tells it at once what was lost.

use crate::frame::{self, FrameError};
use hesper_proto::overlay::{ControlFrame, Echo, Probe, RenewGrant, control_frame::Frame};
use quinn::{Connection, RecvStream, SendStream};
use std::time::Duration;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

/// Frames that may wait on one connection.
const FRAMES: usize = 1024;
/// A path that came up brings several events in a row; one probe answers them all.
const SETTLE: Duration = Duration::from_millis(50);

/// Where to put frames for the other side.
pub(crate) type Frames = mpsc::Sender<Frame>;

/// Starts writing; ends with the connection, or when nobody has a handle any more. `path_up` changes when a router came back.
pub(crate) fn start_writing(
    connection: Connection,
    send: SendStream,
    path_up: watch::Receiver<u64>,
) -> Frames {
    let (frames, queue) = mpsc::channel(FRAMES);
    tokio::spawn(write(connection, send, queue, path_up));
    frames
}

async fn write(
    connection: Connection,
    mut send: SendStream,
    mut queue: mpsc::Receiver<Frame>,
    mut path_up: watch::Receiver<u64>,
) {
    loop {
        let frame = tokio::select! {
            frame = queue.recv() => match frame {
                Some(frame) => frame,
                None => return,
            },
            changed = path_up.changed() => {
                if changed.is_err() {
                    return;
                }
                sleep(SETTLE).await;
                path_up.mark_unchanged();
                Frame::Probe(Probe {})
            }
            _ = connection.closed() => return,
        };
        // Without a deadline: during an interruption this waits, and the idle timeout ends the connection.
        if frame::write_message(&mut send, &ControlFrame { frame: Some(frame) }).await.is_err() {
            return;
        }
    }
}

/// Reads until the stream ends; answers probes, hands over renewals. Empty frames are words of a newer version.
pub(crate) async fn read(
    mut recv: RecvStream,
    frames: Frames,
    mut renewed: impl FnMut(RenewGrant),
) -> FrameError {
    loop {
        // As long as the connection lives: the transport's idle timeout ends this wait.
        match frame::read_message::<ControlFrame>(&mut recv, frame::MAX_MESSAGE_LEN).await {
            Ok(ControlFrame { frame: Some(Frame::Renew(renewal)) }) => renewed(renewal),
            Ok(ControlFrame { frame: Some(Frame::Probe(_)) }) => {
                // A full queue will speak anyway.
                let _ = frames.try_send(Frame::Echo(Echo {}));
            }
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}
