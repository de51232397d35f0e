//! Mutually authenticated TLS 1.3 on raw Ed25519 public keys (RFC 7250), without certificates.
//!
//! A node's key pair is its whole identity: the 32 bytes of the public key in the peer's
//! SubjectPublicKeyInfo *are* its [`NodeId`], and the handshake's signature proves that it holds
//! the private half. There is no authority, no name and no expiry to check. Who may be a peer at
//! all is decided above, by id. Sessions are not resumed, so every connection proves its key.

use std::fmt;
use std::io;
use std::sync::Arc;

use quorate_core::machine::NodeId;
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer,
    UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    PeerIncompatible, ServerConfig, SignatureScheme, version::TLS13,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// The application protocol both ends must name.
pub const ALPN: &[u8] = b"quorate/1";

/// What precedes the seed in the PKCS#8 (version 1) encoding of an Ed25519 key, RFC 8410.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What precedes the key in the SubjectPublicKeyInfo of an Ed25519 key, RFC 8410.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A node's key, ready to shake hands on either side.
#[derive(Clone)]
pub struct Identity {
    id: NodeId,
    key: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
    server: Arc<ServerConfig>,
}

/// Why a key is unusable or a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The node's own key does not work.
    #[error("the node's key cannot be used: {0}")]
    Key(rustls::Error),
    /// The peer proved another key than the one that was dialled.
    #[error("expected the node {expected}, found {found}")]
    WrongPeer {
        /// Who was dialled.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// The peer does not speak this protocol, or not correctly.
    #[error("the handshake failed: {0}")]
    Handshake(io::Error),
}

impl Identity {
    /// The identity of an Ed25519 seed, the 32 bytes of an RFC 8032 private key.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, TlsError> {
        Self::with_provider(seed, rustls::crypto::ring::default_provider())
    }

    /// As [`from_seed`](Self::from_seed), with other cryptography: a simulation's seeded one.
    pub fn with_provider(seed: &[u8; 32], provider: CryptoProvider) -> Result<Self, TlsError> {
        let provider = Arc::new(provider);
        let mut pkcs8 = PKCS8_PREFIX.to_vec();
        pkcs8.extend_from_slice(seed);
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        let private = provider.key_provider.load_private_key(private).map_err(TlsError::Key)?;
        let public = private.public_key().ok_or(TlsError::Key(rustls::Error::General(
            "the cryptography provider does not show public keys".into(),
        )))?;
        let id = node_id(&public).map_err(TlsError::Key)?;
        // rustls passes raw public keys where certificates would be.
        let public = CertificateDer::from(public.to_vec());
        let key = Arc::new(CertifiedKey::new(vec![public], private));

        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Key)?
            .with_client_cert_verifier(Arc::new(PeerKey::new(&provider, None)))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&key))));
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        Ok(Self { id, key, provider, server: Arc::new(server) })
    }

    /// The public key.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Shakes hands as the side that was dialled. The caller bounds the time.
    pub async fn accept<S>(&self, stream: S) -> Result<(NodeId, TlsStream<S>), TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.server));
        let stream = acceptor.accept(stream).await.map_err(classify)?;
        established(TlsStream::Server(stream))
    }

    /// Shakes hands as the dialling side; refuses anyone but `expected`, where given, before our
    /// own key is shown. The caller bounds the time.
    pub async fn dial<S>(
        &self,
        stream: S,
        expected: Option<NodeId>,
    ) -> Result<(NodeId, TlsStream<S>), TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let key = Arc::clone(&self.key);
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Key)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PeerKey::new(&self.provider, expected)))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)));
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_sni = false;
        client.resumption = rustls::client::Resumption::disabled();
        // The API asks for a name; without SNI nobody sees it, and nothing is checked against it.
        let name = ServerName::try_from("quorate").expect("a valid DNS name");
        let connector = TlsConnector::from(Arc::new(client));
        let stream = connector.connect(name, stream).await.map_err(classify)?;
        established(TlsStream::Client(stream))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Names the peer of a finished handshake.
fn established<S>(stream: TlsStream<S>) -> Result<(NodeId, TlsStream<S>), TlsError> {
    let (_, session) = stream.get_ref();
    let fail = |error| TlsError::Handshake(io::Error::new(io::ErrorKind::InvalidData, error));
    // An end that offers no protocol at all passes rustls's own negotiation.
    if session.alpn_protocol() != Some(ALPN) {
        return Err(fail(rustls::Error::NoApplicationProtocol));
    }
    let key = session.peer_certificates().and_then(<[_]>::first);
    let key = key.ok_or_else(|| fail(rustls::Error::NoCertificatesPresented))?;
    let peer = node_id(&SubjectPublicKeyInfoDer::from(key.as_ref())).map_err(fail)?;
    Ok((peer, stream))
}

/// The key in an Ed25519 SubjectPublicKeyInfo; anything else is refused.
fn node_id(spki: &SubjectPublicKeyInfoDer<'_>) -> Result<NodeId, rustls::Error> {
    let key = spki.strip_prefix(&SPKI_PREFIX[..]).and_then(|key| key.try_into().ok());
    key.map(NodeId).ok_or(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// Finds our own refusal inside what rustls returns.
fn classify(error: io::Error) -> TlsError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) = inner
        && let Some(&Mismatch { expected, found }) = other.0.downcast_ref::<Mismatch>()
    {
        return TlsError::WrongPeer { expected, found };
    }
    TlsError::Handshake(error)
}

#[derive(Debug, thiserror::Error)]
#[error("expected the node {expected}, found {found}")]
struct Mismatch {
    expected: NodeId,
    found: NodeId,
}

/// Accepts any Ed25519 key, or only the expected one, whose holder signed this handshake.
#[derive(Debug)]
struct PeerKey {
    provider: Arc<CryptoProvider>,
    expected: Option<NodeId>,
}

impl PeerKey {
    fn new(provider: &Arc<CryptoProvider>, expected: Option<NodeId>) -> Self {
        Self { provider: Arc::clone(provider), expected }
    }

    fn check(&self, key: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let found = node_id(&SubjectPublicKeyInfoDer::from(key.as_ref()))?;
        match self.expected {
            Some(expected) if expected != found => {
                let mismatch = OtherError(Arc::new(Mismatch { expected, found }));
                Err(rustls::Error::InvalidCertificate(CertificateError::Other(mismatch)))
            }
            _ => Ok(()),
        }
    }
}

/// The part that rustls asks of either end's verifier in the same words.
macro_rules! verify_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _key: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            // It is not offered; should rustls ever ask, the answer is no.
            Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            key: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature_with_raw_key(
                message,
                &SubjectPublicKeyInfoDer::from(key.as_ref()),
                signature,
                &self.provider.signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for PeerKey {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(key).map(|()| ServerCertVerified::assertion())
    }

    verify_signatures!();
}

impl ClientCertVerifier for PeerKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(key).map(|()| ClientCertVerified::assertion())
    }

    verify_signatures!();
}
