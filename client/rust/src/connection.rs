//! How a client reaches its server: address, TLS, tokens, pings.

use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::client::{Client, Inner};
use crate::error::{Code, Error, Result};

const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_TOKEN_BYTES: usize = 8192;
/// A token file is looked at once in this time.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How calls are repeated that fail with `UNAVAILABLE`, or with `RESOURCE_EXHAUSTED` and a time
/// after which a retry may succeed.
///
/// A retry sends the same request with the same request id, so that nothing is done twice. It
/// follows a random pause of at most `first_pause`, doubled each time up to `last_pause`, after the
/// time for which the server asks. A pause that would exceed the deadline of the call is not made:
/// the call fails with the last error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Number of attempts, with the first. 1: no retries. Default: 8.
    pub max_attempts: u32,
    /// The longest first pause. Default: 50 ms.
    pub first_pause: Duration,
    /// The longest pause. Default: 1 s.
    pub last_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 8,
            first_pause: Duration::from_millis(50),
            last_pause: Duration::from_secs(1),
        }
    }
}

/// Encryption of the connection. Files are PEM, and are read once, by [`Builder::build`].
#[derive(Clone, Debug, Default)]
pub struct Tls {
    ca_file: Option<PathBuf>,
    ca_pem: Option<String>,
    identity: Option<(PathBuf, PathBuf)>,
    server_name: Option<String>,
}

impl Tls {
    /// Trusts the authorities of the system.
    pub fn new() -> Tls {
        Tls::default()
    }

    /// Trusts the authorities in this file, instead of those of the system.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Tls {
        self.ca_file = Some(path.into());
        self
    }

    /// Trusts the authorities in this text, instead of those of the system.
    pub fn ca_pem(mut self, pem: impl Into<String>) -> Tls {
        self.ca_pem = Some(pem.into());
        self
    }

    /// Presents a client certificate, followed in its file by intermediate ones, and its key.
    pub fn identity_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Tls {
        self.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Sets the name that the server's certificate must have, instead of the host of the address.
    pub fn server_name(mut self, name: impl Into<String>) -> Tls {
        self.server_name = Some(name.into());
        self
    }

    fn config(&self) -> Result<ClientTlsConfig> {
        let mut config = ClientTlsConfig::new();
        let ca = match (&self.ca_pem, &self.ca_file) {
            (Some(pem), _) => Some((pem.clone(), "ca_pem".to_string())),
            (None, Some(path)) => Some((read(path)?, path.display().to_string())),
            (None, None) => None,
        };
        config = match ca {
            Some((pem, name)) if !pem.contains("-----BEGIN CERTIFICATE-----") => {
                return Err(unusable(format!("TLS: {name}: holds no certificate in PEM")));
            }
            Some((pem, _)) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config.with_enabled_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        Ok(config)
    }

    fn files(&self) -> String {
        let files = self.ca_file.iter().chain(self.identity.iter().flat_map(|(a, b)| [a, b]));
        files.map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// A client that is being configured: see [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use = "a client exists after build()"]
pub struct Builder {
    address: String,
    tls: Option<Tls>,
    token: Option<Secret>,
    token_file: Option<PathBuf>,
    allow_clear_text: bool,
    retry: RetryPolicy,
    keepalive: Option<Duration>,
    timeout: Duration,
}

#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Builder {
    pub(crate) fn new(address: String) -> Builder {
        Builder {
            address,
            tls: None,
            token: None,
            token_file: None,
            allow_clear_text: false,
            retry: RetryPolicy::default(),
            keepalive: Some(Duration::from_secs(10)),
            timeout: Duration::from_secs(60),
        }
    }

    /// Encrypts the connection. Unix sockets are always clear text.
    pub fn tls(mut self, tls: Tls) -> Builder {
        self.tls = Some(tls);
        self
    }

    /// Sends a bearer token with every call, instead of that in the environment variable
    /// `BACKPROP_TOKEN`.
    pub fn token(mut self, token: impl Into<String>) -> Builder {
        self.token = Some(Secret(token.into()));
        self
    }

    /// Sends the bearer token in a file with every call. White space at its ends is ignored. The
    /// file is read again when it changes; while it cannot be read, calls fail with
    /// `UNAUTHENTICATED`.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Builder {
        self.token_file = Some(path.into());
        self
    }

    /// Sends the token in clear text to other machines too. Without this, [`Builder::build`] fails
    /// for a token without TLS unless the address is a loopback address or a Unix socket.
    pub fn allow_clear_text_token(mut self) -> Builder {
        self.allow_clear_text = true;
        self
    }

    /// Sets how calls are repeated.
    pub fn retry(mut self, retry: RetryPolicy) -> Builder {
        self.retry = retry;
        self
    }

    /// Sets the time between HTTP/2 pings during calls; none: no pings. Default: 10 s. A server
    /// that does not answer a ping within 10 s counts as unavailable.
    pub fn keepalive(mut self, interval: Option<Duration>) -> Builder {
        self.keepalive = interval;
        self
    }

    /// Sets the deadline of calls with one response, retries included, unless a call sets its own.
    /// Default: 60 s. Training, watching and transfers of files have none.
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.timeout = timeout;
        self
    }

    /// Makes the client. It connects when the first call is made. Must be called in a Tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for an address that cannot be right; `FAILED_PRECONDITION` if a file of
    /// TLS cannot be used, or a token would be sent in clear text.
    pub fn build(self) -> Result<Client> {
        let socket = self.address.strip_prefix("unix:");
        let encrypted = self.tls.is_some() && socket.is_none();
        let credentials = self.credentials()?;
        if !matches!(credentials, Credentials::None)
            && !encrypted
            && !self.allow_clear_text
            && !is_this_machine(&self.address)
        {
            return Err(unusable(format!(
                "the token is not sent to {} in clear text; use TLS, or allow clear text explicitly",
                self.address
            )));
        }
        let uri = match socket {
            Some(path) => format!("unix:{}", path.strip_prefix("//").unwrap_or(path)),
            None if encrypted => format!("https://{}", self.address),
            None => format!("http://{}", self.address),
        };
        let wrong_address = |_| {
            Error::field(
                "address",
                format!("expected host:port or unix:path, got {}", self.address),
            )
        };
        let mut endpoint = Endpoint::from_shared(uri)
            .map_err(wrong_address)?
            .user_agent(concat!("backprop-client-rust/", env!("CARGO_PKG_VERSION")))
            .map_err(wrong_address)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true);
        if socket.is_none() && endpoint.uri().port_u16().is_none() {
            return Err(Error::field(
                "address",
                format!("expected host:port or unix:path, got {}", self.address),
            ));
        }
        if let Some(interval) = self.keepalive {
            endpoint = endpoint
                .http2_keep_alive_interval(interval)
                .keep_alive_timeout(Duration::from_secs(10));
        }
        if let (Some(tls), true) = (&self.tls, encrypted) {
            endpoint = endpoint.tls_config(tls.config()?).map_err(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                unusable(format!("TLS: {}: {}", tls.files(), cause.unwrap_or(error.to_string())))
            })?;
        }
        Ok(Client(Arc::new(Inner {
            channel: endpoint.connect_lazy(),
            credentials,
            retry: self.retry,
            timeout: self.timeout,
        })))
    }

    fn credentials(&self) -> Result<Credentials> {
        match (&self.token, &self.token_file) {
            (Some(_), Some(_)) => {
                Err(unusable("a token and a token file cannot both be given".into()))
            }
            (Some(Secret(token)), None) => {
                Ok(Credentials::Token(bearer(token).map_err(|wrong| unusable(wrong.into()))?))
            }
            (None, Some(path)) => Ok(Credentials::File(TokenFile::new(path.clone()))),
            (None, None) => match std::env::var("BACKPROP_TOKEN") {
                Ok(token) if !token.is_empty() => Ok(Credentials::Token(
                    bearer(&token).map_err(|wrong| unusable(format!("BACKPROP_TOKEN: {wrong}")))?,
                )),
                _ => Ok(Credentials::None),
            },
        }
    }
}

/// What a client presents with each call.
pub(crate) enum Credentials {
    None,
    Token(MetadataValue<Ascii>),
    File(TokenFile),
}

impl Credentials {
    pub(crate) fn header(&self) -> Result<Option<MetadataValue<Ascii>>> {
        match self {
            Credentials::None => Ok(None),
            Credentials::Token(value) => Ok(Some(value.clone())),
            Credentials::File(file) => file.header().map(Some),
        }
    }
}

/// Reads a token again when its file changes.
pub(crate) struct TokenFile {
    path: PathBuf,
    state: Mutex<TokenState>,
}

#[derive(Default)]
struct TokenState {
    next_look: Option<Instant>,
    /// Size and time of change: what identifies the content of the file.
    stamp: Option<(u64, SystemTime)>,
    header: Option<std::result::Result<MetadataValue<Ascii>, String>>,
}

impl TokenFile {
    fn new(path: PathBuf) -> TokenFile {
        TokenFile { path, state: Mutex::default() }
    }

    fn header(&self) -> Result<MetadataValue<Ascii>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.next_look.is_none_or(|next| now >= next) {
            state.next_look = Some(now + LOOK_PERIOD);
            let about = fs::metadata(&self.path);
            let stamp = about.and_then(|about| Ok((about.len(), about.modified()?))).ok();
            if stamp.is_none() || stamp != state.stamp {
                state.stamp = stamp;
                state.header = Some(self.read());
            }
        }
        match &state.header {
            Some(Ok(header)) => Ok(header.clone()),
            Some(Err(wrong)) => Err(Error::new(Code::Unauthenticated, wrong)),
            None => Err(Error::new(Code::Unauthenticated, "the token file was not read")),
        }
    }

    fn read(&self) -> std::result::Result<MetadataValue<Ascii>, String> {
        let name = self.path.display();
        let text =
            read_text(&self.path).map_err(|wrong| format!("the token file {name}: {wrong}"))?;
        bearer(text.trim()).map_err(|wrong| format!("the token file {name}: {wrong}"))
    }
}

/// The header of a token. Messages do not contain the token.
fn bearer(token: &str) -> std::result::Result<MetadataValue<Ascii>, &'static str> {
    if token.is_empty() {
        return Err("holds no token");
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err("the token has more than 8192 bytes");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the token has white space, or characters other than ASCII");
    }
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {token}").parse().map_err(|_| "the token cannot be sent in a header")?;
    value.set_sensitive(true);
    Ok(value)
}

fn unusable(message: String) -> Error {
    Error::new(Code::FailedPrecondition, message)
}

fn read_text(path: &Path) -> std::result::Result<String, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    if !file.metadata().is_ok_and(|about| about.is_file()) {
        return Err("is not a regular file".into());
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    match text.len() as u64 {
        0 => Err("is empty".into()),
        bytes if bytes > MAX_FILE_BYTES => Err("has more than 1 MiB".into()),
        _ => Ok(text),
    }
}

fn read(path: &Path) -> Result<String> {
    read_text(path).map_err(|wrong| unusable(format!("TLS: {}: {wrong}", path.display())))
}

/// Whether what is sent to the address stays on this machine.
fn is_this_machine(address: &str) -> bool {
    if address.starts_with("unix:") {
        return true;
    }
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback(),
        Ok(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
        }
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_are_known() {
        for (address, here) in [
            ("localhost:1", true),
            ("a.localhost:1", true),
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("unix:/run/x", true),
            ("127.0.0.1.example.com:1", false),
            ("localhost.example.com:1", false),
            ("0.0.0.0:1", false),
            ("10.0.0.1:1", false),
            ("[2001:db8::1]:1", false),
            ("example.com:1", false),
        ] {
            assert_eq!(is_this_machine(address), here, "{address}");
        }
    }

    #[tokio::test]
    async fn a_token_is_not_sent_in_clear_text_to_another_machine() {
        let builder = Client::builder("example.com:50051").token("secret");
        let error = builder.clone().build().unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
        assert!(!format!("{error} {builder:?}").contains("secret"));
        assert!(builder.clone().allow_clear_text_token().build().is_ok());
        assert!(builder.tls(Tls::new()).build().is_ok());
        assert!(Client::builder("localhost:50051").token("secret").build().is_ok());
        assert!(Client::builder("unix:/run/backpropd").token("secret").build().is_ok());
    }

    #[tokio::test]
    async fn wrong_settings_are_named() {
        for (address, field) in [("", true), ("host", true), ("a b:1", true), ("host:1", false)] {
            let built = Client::builder(address).build();
            assert_eq!(built.is_err(), field, "{address}");
        }
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing.pem");
        let error =
            Client::builder("host:1").tls(Tls::new().ca_file(&missing)).build().unwrap_err();
        assert!(error.message().contains("missing.pem"), "{error}");
        let empty = directory.path().join("text.pem");
        fs::write(&empty, "no certificate").unwrap();
        let error = Client::builder("host:1").tls(Tls::new().ca_file(&empty)).build().unwrap_err();
        assert!(error.message().contains("holds no certificate"), "{error}");
        for token in ["", "a b", "ä", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
            assert!(Client::builder("localhost:1").token(token).build().is_err());
        }
        assert!(Client::builder("localhost:1").token("x".repeat(MAX_TOKEN_BYTES)).build().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_file_is_read_again_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let file = TokenFile::new(path.clone());
        assert_eq!(file.header().unwrap_err().code(), Code::Unauthenticated);
        fs::write(&path, " first\n").unwrap();
        tokio::time::advance(LOOK_PERIOD).await;
        assert_eq!(file.header().unwrap(), "Bearer first");
        fs::write(&path, "the second").unwrap();
        assert_eq!(file.header().unwrap(), "Bearer first");
        tokio::time::advance(LOOK_PERIOD).await;
        assert_eq!(file.header().unwrap(), "Bearer the second");
    }
}
