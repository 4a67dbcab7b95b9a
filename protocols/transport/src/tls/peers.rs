//! The clients that are connected with a certificate: those of revoked ones are cut off.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Waker;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use rustls_pki_types::CertificateDer;

/// The certificates that the client of one connection showed. Its connection holds it; the register only sees it.
#[derive(Debug)]
pub struct Proof {
    leaf: Bytes,
    /// The CAs' certificates that came with it.
    between: Box<[Bytes]>,
    revoked: AtomicBool,
    reader: AtomicWaker,
    number: u64,
    register: Weak<Peers>,
}

/// All connections with certificates.
#[derive(Debug, Default)]
pub(crate) struct Peers(Mutex<Register>);

#[derive(Debug, Default)]
struct Register {
    next: u64,
    proofs: BTreeMap<u64, Weak<Proof>>,
}

impl Proof {
    /// The client's own, in DER.
    pub(crate) fn certificate(&self) -> Bytes {
        self.leaf.clone()
    }

    /// Fails once it is revoked.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.revoked.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the certificate was revoked")),
        }
    }

    /// Whom to wake when it is revoked.
    pub(crate) fn register(&self, waker: &Waker) {
        self.reader.register(waker);
    }

    /// All certificates, the client's first.
    pub(crate) fn chain(&self) -> impl Iterator<Item = CertificateDer<'_>> {
        std::iter::once(&self.leaf).chain(&*self.between).map(|der| CertificateDer::from(&**der))
    }

    /// Ends its connection.
    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        self.reader.wake();
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        if let Some(register) = self.register.upgrade() {
            let mut register = register.0.lock().unwrap_or_else(PoisonError::into_inner);
            register.proofs.remove(&self.number);
        }
    }
}

impl Peers {
    /// A connection begins whose client has shown `chain`, its own certificate first.
    pub(crate) fn add(self: &Arc<Self>, chain: &[CertificateDer<'_>]) -> Option<Arc<Proof>> {
        let mut ders = chain.iter().map(|der| Bytes::copy_from_slice(der));
        let leaf = ders.next()?;
        let between = ders.collect();
        let mut register = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = register.next;
        register.next = number.wrapping_add(1);
        let (revoked, reader) = (AtomicBool::new(false), AtomicWaker::new());
        let proof =
            Arc::new(Proof { leaf, between, revoked, reader, number, register: Arc::downgrade(self) });
        register.proofs.insert(number, Arc::downgrade(&proof));
        Some(proof)
    }

    /// All that are connected now.
    pub(crate) fn all(&self) -> Vec<Arc<Proof>> {
        let register = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        register.proofs.values().filter_map(Weak::upgrade).collect()
    }
}
