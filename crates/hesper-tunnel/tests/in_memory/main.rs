//! The HTTP proxy and the local listeners, with targets in memory instead of on the mesh.

mod http_proxy;
mod local_listeners;
mod local_udp;
mod mesh;
