//! TLS for the stubs of services that accept HTTPS only: a new self-signed certificate for loopback, which the process
//! under test trusts through `SSL_CERT_FILE`.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::serve::Listener;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    },
    server::TlsStream,
};

/// A self-signed certificate for `localhost` and 127.0.0.1.
#[derive(Clone)]
pub(crate) struct Certificate {
    folder: Arc<TempDir>,
    acceptor: TlsAcceptor,
}

impl Certificate {
    /// Generates a certificate, and writes it and its key to a temporary folder.
    pub(crate) fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
        let chain = vec![CertificateDer::from(cert.der().to_vec())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        Self { folder: Arc::new(folder), acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    /// The path of the certificate in PEM, for `SSL_CERT_FILE`.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// The path of its private key in PEM.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// A client that trusts this certificate only, and uses no proxy.
    pub(crate) fn client(&self) -> reqwest::Client {
        client_trusting(&self.file())
    }

    /// Listens on a free port of loopback.
    pub(crate) async fn listen(&self) -> TlsListener {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        TlsListener { listener, acceptor: self.acceptor.clone() }
    }
}

/// A client that trusts this certificate only. It keeps no connections.
fn client_trusting(certificate: &Path) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(&fs::read(certificate).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([certificate]).no_proxy();
    client.redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(0).build().unwrap()
}

/// Accepts connections whose TLS handshake succeeds.
pub(crate) struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (connection, address) = Listener::accept(&mut self.listener).await;
            if let Ok(connection) = self.acceptor.accept(connection).await {
                return (connection, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
