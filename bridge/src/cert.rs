//! `weft cert`: a CA and a server's certificate, to try TLS.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::args::Cert;
use crate::start::print;

/// Writes `ca.pem`, `ca.key`, `server.pem` and `server.key`, and overwrites none.
pub(crate) fn make(wanted: &Cert) -> anyhow::Result<ExitCode> {
    let folder = &wanted.out;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut ca = CertificateParams::new(Vec::<String>::new())?;
    ca.distinguished_name.push(DnType::CommonName, "Weft test CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;

    let mut server = CertificateParams::new(wanted.host.clone()).context("--host")?;
    let name = wanted.host.first().map_or("localhost", String::as_str);
    server.distinguished_name.push(DnType::CommonName, name);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let ca_pem = ca_key.serialize_pem();
    let certificate = server.signed_by(&key, &Issuer::new(ca, ca_key))?;

    write(&folder.join("ca.pem"), &ca_certificate.pem(), 0o644)?;
    write(&folder.join("ca.key"), &ca_pem, 0o600)?;
    write(&folder.join("server.pem"), &certificate.pem(), 0o644)?;
    write(&folder.join("server.key"), &key.serialize_pem(), 0o600)?;
    let here = fs::canonicalize(folder).unwrap_or_else(|_| folder.clone());
    let here = here.display();
    print(&format!(
        "# A certificate for {hosts}, to try TLS. Put this into weft.toml:\n\
         [listener.secure]\nlisten = \"127.0.0.1:8883\"\ncarrier = \"tls\"\n\
         [listener.secure.tls]\ncertificate = \"{here}/server.pem\"\nkey = \"{here}/server.key\"\n\
         # Clients trust {here}/ca.pem: mosquitto_sub -h {name} -p 8883 --cafile {here}/ca.pem -t 'demo/#'\n",
        hosts = wanted.host.join(", "),
    ));
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, pem: &str, mode: u32) -> anyhow::Result<()> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.with_context(|| format!("{} is not written", path.display()))?;
    file.write_all(pem.as_bytes()).with_context(|| path.display().to_string())
}
