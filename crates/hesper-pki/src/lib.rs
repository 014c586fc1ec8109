//! Who a peer is, and what it may do: certificates, keys, tokens, and the TLS settings that enforce them.
//!
//! - [`spiffe`]: names of identities, routers and controllers, as URI SAN of a leaf certificate.
//! - [`key`], [`csr`], [`ca`]: P-256 keys, certification requests, and the authority that issues short-lived leaves.
//! - [`token`]: the four signed tokens (enrollment, session, grant, pass): compact JWS, EdDSA only, closed claim sets.
//! - [`credentials`]: a node's certificate, key and roots, and the handle that swaps them without a restart.
//! - [`identity_file`]: the same on disk, in OpenZiti's JSON layout.
//! - [`tls`]: rustls configurations for peers and for the controller: TLS 1.3, ring, no resumption, no 0-RTT.
//! - [`rotation`]: the phases in which one CA takes over from another.
//! - [`files`], [`pem`], [`digest`]: private files, PEM armour, SHA-256 as text.
//!
//! Two rules hold everywhere. Identity is read from the **leaf** that the handshake proved and from no other certificate
//! of the chain. And a token is read only after its signature, its type and its whole claim set were checked; the one
//! exception is [`token::read_enrollment`], whose reader only learns from it whom to ask.

pub mod ca;
pub mod credentials;
pub mod csr;
pub mod digest;
pub mod files;
pub mod identity_file;
pub mod key;
pub mod pem;
pub mod rotation;
pub mod spiffe;
pub mod tls;
pub mod token;

/// Certificate and key types in the signatures of this crate.
pub use rustls_pki_types::CertificateDer;
