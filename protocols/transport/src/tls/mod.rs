//! TLS of a listener, followed while it runs: files that change are read again, and replace what was read as a whole.

mod files;
mod names;
mod options;
mod peers;
mod reason;
mod revoked;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use event::{Audit, Health};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use files::TlsError;
pub use options::{ClientCertificates, Doubt, SniOptions, TlsOptions, Version};
pub use peers::Proof;
pub(crate) use reason::reason_of;

use files::{Loaded, Look, differing, load, look};
use peers::Peers;

/// What a listener shows and asks for.
#[derive(Debug)]
pub struct Tls {
    listener: Arc<str>,
    options: TlsOptions,
    alpn: &'static [&'static [u8]],
    current: watch::Sender<Arc<Loaded>>,
    peers: Arc<Peers>,
    health: Health,
    /// Told of files that changed, once there is one.
    audit: OnceLock<Audit>,
    /// How the files looked when they were read.
    seen: Look,
}

impl Tls {
    /// Reads all files. `alpn`: the protocols that are spoken (RFC 7301); clients that name none are taken. Blocks.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn open(
        listener: &str,
        options: &TlsOptions,
        alpn: &'static [&'static [u8]],
        health: Health,
    ) -> Result<Arc<Self>, TlsError> {
        let seen = look(options);
        let loaded = load(options, alpn)?;
        Ok(Arc::new(Self {
            listener: listener.into(),
            options: options.clone(),
            alpn,
            current: watch::Sender::new(Arc::new(loaded)),
            peers: Arc::default(),
            health,
            audit: OnceLock::new(),
            seen,
        }))
    }

    /// From now on `audit` is told of files that changed. Once; any other is ignored.
    pub fn tells(&self, audit: Audit) {
        self.audit.set(audit).unwrap_or(());
    }

    /// What new handshakes use.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.borrow().config)
    }

    pub(crate) fn handshake_limits(&self) -> (u32, u16) {
        (self.options.handshakes_max, self.options.handshake_timeout_s)
    }

    /// Shakes hands. Not cancel-safe: dropped, the connection is closed.
    pub(crate) async fn accept(
        &self,
        tcp: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Arc<Proof>>)> {
        let with = Arc::clone(&self.current.borrow());
        let stream = TlsAcceptor::from(Arc::clone(&with.config)).accept(tcp).await?;
        let proof = stream.get_ref().1.peer_certificates();
        let proof = proof.map(|chain| self.prove(chain, &with.config)).transpose()?.flatten();
        Ok((stream, proof))
    }

    /// Takes up the certificates that a client showed and that `with` found good, so that the connection ends when they are
    /// revoked.
    ///
    /// # Errors
    /// They are revoked by now.
    pub fn prove(
        &self,
        chain: &[CertificateDer<'_>],
        with: &Arc<ServerConfig>,
    ) -> io::Result<Option<Arc<Proof>>> {
        let proof = self.peers.add(chain);
        if let Some(proof) = &proof {
            // The lists may have changed while the client was shaking hands.
            let now = Arc::clone(&self.current.borrow());
            if !Arc::ptr_eq(with, &now.config) && is_revoked(&now, proof) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, REVOKED));
            }
        }
        Ok(proof)
    }

    /// Reads the files again whenever one has changed, or on SIGHUP, until `drain` turns true. Cancel-safe.
    pub async fn watch(self: Arc<Self>, mut drain: watch::Receiver<bool>) {
        let every = Duration::from_secs(u64::from(self.options.reload_s.max(1)));
        let mut looks = tokio::time::interval(every);
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut seen = self.seen.clone();
        loop {
            let asked = tokio::select! {
                biased;
                _ = drain.wait_for(|drain| *drain) => return,
                () = hung_up(&mut hangup) => true,
                _ = looks.tick() => false,
            };
            let this = Arc::clone(&self);
            let before = seen.clone();
            let work = move || this.follow(&before, asked);
            seen = tokio::task::spawn_blocking(work).await.unwrap_or(seen);
        }
    }

    /// Reads the files if they changed, or if somebody `asked`. How they look now. Blocks.
    fn follow(&self, seen: &Look, asked: bool) -> Look {
        let now = look(&self.options);
        if !asked && now == *seen {
            return now;
        }
        let part = format!("tls/{}", self.listener);
        let changed = differing(seen, &now);
        let tell = |refused: Option<&dyn std::fmt::Display>| {
            if let Some(audit) = self.audit.get() {
                audit.files(&changed, refused, Instant::now());
            }
        };
        let result = match load(&self.options, self.alpn) {
            Ok(loaded) => {
                self.current.send_replace(Arc::new(loaded));
                let cut = self.cut_revoked();
                self.health.up(&part);
                tell(None);
                tracing::info!(listener = &*self.listener, cut, "TLS files read again");
                "taken"
            }
            Err(error) => {
                tracing::error!(listener = &*self.listener, %error, "TLS files not taken; what was read before still holds");
                self.health.down(&part, format!("{error}; what was read before still holds"));
                tell(Some(&error));
                "broken"
            }
        };
        let labels = [
            ("listener", metrics::SharedString::from(Arc::clone(&self.listener))),
            ("result", result.into()),
        ];
        metrics::counter!("weft_transport_tls_reloads_total", &labels).increment(1);
        now
    }

    /// Ends the connections of revoked certificates; how many.
    fn cut_revoked(&self) -> usize {
        let now = Arc::clone(&self.current.borrow());
        if now.revoked.is_empty() {
            return 0;
        }
        let revoked: Vec<_> = self.peers.all().into_iter().filter(|proof| is_revoked(&now, proof)).collect();
        revoked.iter().for_each(|proof| proof.revoke());
        let name = Arc::clone(&self.listener);
        metrics::counter!("weft_transport_connections_revoked_total", "listener" => name)
            .increment(revoked.len() as u64);
        revoked.len()
    }
}

const REVOKED: rustls::Error = rustls::Error::InvalidCertificate(rustls::CertificateError::Revoked);

/// Whether a list names one of the certificates, and the whole check, signatures included, fails too. The first is quick,
/// the second is only for those it names.
fn is_revoked(loaded: &Loaded, proof: &Proof) -> bool {
    let chain: Vec<CertificateDer<'_>> = proof.chain().collect();
    let (Some(verifier), Some((leaf, between))) = (&loaded.verifier, chain.split_first()) else {
        return false;
    };
    chain.iter().any(|certificate| loaded.revoked.names(certificate))
        && verifier.verify_client_cert(leaf, between, UnixTime::now()).is_err()
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => {
            hangup.recv().await;
        }
        None => std::future::pending().await,
    }
}
