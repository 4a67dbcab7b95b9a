//! A certificate authority for tests, and what it signs, as files.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// A CA with a folder of its own.
#[derive(Debug)]
pub struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A CA, and `server.pem` and `server.key` for the name "localhost".
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let this = Self { folder, issuer: Issuer::new(params, key) };
        this.sign("server", &["localhost"], 1);
        this
    }

    /// One that signed clients `good` (serial number 10) and `bad` (11) and revoked none, and another that signed a `stranger`
    /// (12).
    pub fn with_clients() -> (Self, Self) {
        let (ca, other) = (Self::new(), Self::new());
        for (file, serial) in [("good", 10), ("bad", 11)] {
            ca.sign(file, &[], serial);
        }
        other.sign("stranger", &[], 12);
        ca.revoke(&[]);
        (ca, other)
    }

    /// Writes `{file}.pem` and `{file}.key`: a certificate for these names.
    pub fn sign(&self, file: &str, names: &[&str], serial: u64) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, file);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{file}.key")), key.serialize_pem()).unwrap();
        std::fs::write(self.path(&format!("{file}.pem")), certificate.pem()).unwrap();
    }

    /// A client that trusts this CA and offers these protocols.
    pub fn client(&self, alpn: &[&[u8]]) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// A server with `server.pem`, for the name "localhost".
    pub fn server(&self) -> Arc<rustls::ServerConfig> {
        let certificate = CertificateDer::from_pem_file(self.path("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
    }

    /// Writes `crl/list.pem`, which revokes these.
    pub fn revoke(&self, serials: &[u64]) {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: rcgen::date_time_ymd(2024, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2024, 1, 1),
            next_update: rcgen::date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap();
        std::fs::create_dir_all(self.path("crl")).unwrap();
        std::fs::write(self.path("crl/list.pem"), list.pem().unwrap()).unwrap();
    }

    /// A file of its folder.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// `carrier` "tls" and the table `tls` of a listener with this server's certificate, and `more`.
    pub fn tls(&self, name: &str, more: &str) -> String {
        self.carrier("tls", name, more)
    }

    /// `carrier` and the table `tls` of a listener with this server's certificate, and `more`.
    pub fn carrier(&self, carrier: &str, name: &str, more: &str) -> String {
        let (certificate, key) = (self.path("server.pem"), self.path("server.key"));
        format!(
            "carrier = \"{carrier}\"\n[listener.{name}.tls]\ncertificate = {certificate:?}\nkey = {key:?}\nreload_s = 1\n{more}\n"
        )
    }

    /// Client certificates of this CA, required, and revoked as its list says.
    pub fn clients(&self) -> String {
        let (ca, crl) = (self.path("ca.pem"), self.path("crl"));
        format!("client_ca = {ca:?}\nclient_certificates = \"required\"\ncrl = [{crl:?}]")
    }
}
