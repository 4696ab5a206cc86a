//! Servers, a link that can be cut, and rows.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backprop_client::v1::{Activation, Adam, Batch, Layer, ModelSpec, Sgd};
use backprop_client::{Client, RetryPolicy};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinSet;

fn program(name: &str) -> PathBuf {
    let server = std::env::var_os("BACKPROPD").map(PathBuf::from).unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/release/bin/backpropd")
    });
    let program = server.with_file_name(name);
    assert!(program.exists(), "{} is missing: build it, or set BACKPROPD", program.display());
    program
}

/// A server with a data directory. It is killed when it is dropped.
pub struct Server {
    pub directory: TempDir,
    pub address: String,
    flags: Vec<String>,
    process: Option<Child>,
}

impl Server {
    pub async fn start() -> Server {
        Server::with_flags(TempDir::new().unwrap(), &[]).await
    }

    pub async fn with_flags(directory: TempDir, flags: &[&str]) -> Server {
        let flags = flags.iter().map(ToString::to_string).collect();
        let address = "127.0.0.1:0".into();
        let mut server = Server { directory, address, flags, process: None };
        server.restart().await;
        server
    }

    /// Starts the server where it was before, and waits until it accepts calls.
    pub async fn restart(&mut self) {
        let ready = self.directory.path().join("address");
        let _ = std::fs::remove_file(&ready);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let child = tokio::process::Command::new(program("backpropd"))
            .args(["--listen", &self.address, "--threads", "2"])
            .arg("--port-file")
            .arg(&ready)
            .arg("--data-dir")
            .arg(self.directory.path().join("data"))
            .args(&self.flags)
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let child = self.process.insert(child);
        let start = Instant::now();
        while !ready.exists() {
            assert!(child.try_wait().unwrap().is_none(), "the server did not start");
            assert!(start.elapsed() < Duration::from_secs(30), "the server did not start in time");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.address = std::fs::read_to_string(&ready).unwrap().trim().into();
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }

    /// SIGSTOP, so that what is under way stays so until the kill.
    pub fn freeze(&self) {
        let pid = self.process.as_ref().unwrap().id().unwrap().to_string();
        assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    }

    pub fn client(&self) -> Client {
        patient(&self.address)
    }
}

/// A client that waits for a restart.
pub fn patient(address: &str) -> Client {
    let retry = RetryPolicy { max_attempts: 60, ..Default::default() };
    Client::builder(address).retry(retry).build().unwrap()
}

/// Makes a token for a principal: the token, and its entry for an auth file.
pub fn make_token(name: &str, role: &str) -> (String, String) {
    let output = Command::new(program("backprop"))
        .args(["token", "create", "--name", name, "--role", role])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = String::from_utf8(output.stdout).unwrap();
    let (token, line) = output.split_once('\n').unwrap();
    (token.into(), line.trim().into())
}

/// A TCP link to a server. Responses can be held back, and all connections cut.
pub struct Link {
    pub address: String,
    connections: Arc<Mutex<JoinSet<()>>>,
    hold: watch::Sender<bool>,
}

impl Link {
    pub async fn to(server: &str) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (hold, held) = watch::channel(false);
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let (server, set) = (server.to_string(), connections.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                set.lock().unwrap().spawn(forward(client, server, held.clone()));
            }
        });
        Link { address, connections, hold }
    }

    /// From now on no response passes, until the link is cut.
    pub fn hold_responses(&self) {
        self.hold.send_replace(true);
    }

    /// Ends all connections; new ones work.
    pub fn cut(&self) {
        self.hold.send_replace(false);
        self.connections.lock().unwrap().abort_all();
    }
}

async fn forward(client: TcpStream, server: TcpStream, held: watch::Receiver<bool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let responses = async {
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
            if *held.borrow() {
                std::future::pending::<()>().await;
            }
            if to_client.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { _ = requests => {}, _ = responses => {} }
}

/// Points whose class says whether their coordinates have the same sign.
pub fn xor(rows: usize) -> Batch {
    let at = |i: usize, step: usize| ((i * step) % 97) as f32 / 48.5 - 1.0;
    let points: Vec<[f32; 2]> = (0..rows).map(|i| [at(i, 13), at(i, 31)]).collect();
    let labels: Vec<i32> = points.iter().map(|[x, y]| i32::from(x * y > 0.0)).collect();
    Batch::with_labels(points, labels)
}

pub fn small() -> ModelSpec {
    ModelSpec::new(2)
        .with_layer(Layer::new(8).with_activation(Activation::Tanh))
        .with_layer(Layer::new(2))
        .with_optimizer(Adam::new(0.01))
        .with_seed(7)
}

/// A model with which a step takes long enough to interrupt a run.
pub fn slow() -> ModelSpec {
    ModelSpec::new(2)
        .with_layer(Layer::new(256))
        .with_layer(Layer::new(256))
        .with_layer(Layer::new(2))
        .with_optimizer(Sgd::new(0.01).with_momentum(0.9))
        .with_seed(3)
}

/// The weights of a model as bytes: two models with the same have the same bits.
pub async fn weights(client: &Client, model: &str) -> Vec<(String, Vec<u8>)> {
    let parameters = client.get_parameters(model).await.unwrap();
    let bytes = |tensor: Option<backprop_client::v1::Tensor>| tensor.unwrap().raw.to_vec();
    parameters.tensors.into_iter().map(|named| (named.name, bytes(named.tensor))).collect()
}
