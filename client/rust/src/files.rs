//! Models and backups as files.

use std::future::{Future, IntoFuture};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::call::{Attempts, BoxFuture, deadline_after, fill_request_id, within};
use crate::client::{Client, check_model};
use crate::error::{Code, Error, Result};
use crate::v1::{
    CreateBackupRequest, Durability, ExportModelRequest, ImportModelRequest, Model,
    RestoreBackupRequest, RestoreBackupResponse,
};

const PIECE_BYTES: usize = 1 << 20;

pub(crate) enum DownloadRequest {
    Model(ExportModelRequest),
    Backup(CreateBackupRequest),
}

/// A file that the server makes: see [`Client::export_model`] and [`Client::create_backup`].
#[must_use = "nothing is sent before a method says where the bytes go"]
pub struct Download {
    client: Client,
    request: DownloadRequest,
    timeout: Option<Duration>,
}

impl Download {
    pub(crate) fn new(client: &Client, request: DownloadRequest) -> Download {
        Download { client: client.clone(), request, timeout: None }
    }

    /// Ends the transfer after this time. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Download {
        self.timeout = Some(timeout);
        self
    }

    /// Writes the file at `path`, and returns its size in bytes. The path has the whole file or is
    /// not touched: the bytes go to `{path}.part` first. If the connection breaks, the transfer
    /// starts again.
    pub async fn to_file(self, path: impl AsRef<Path>) -> Result<u64> {
        let path = path.as_ref();
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = Path::new(&part);
        let failed = |error: std::io::Error| Error::io(&part.display().to_string(), &error);
        let mut transfer = Transfer::new(self)?;
        let written = async {
            let bytes = loop {
                let mut file = File::create(part).await.map_err(failed)?;
                let error = match transfer.copy(&mut file).await {
                    Ok(bytes) => {
                        file.sync_all().await.map_err(failed)?;
                        break bytes;
                    }
                    Err(error) => error,
                };
                transfer.attempts.pause_after(error).await?;
            };
            tokio::fs::rename(part, path)
                .await
                .map_err(|error| Error::io(&path.display().to_string(), &error))?;
            Ok::<u64, Error>(bytes)
        };
        let written = written.await;
        if written.is_err() {
            let _ = tokio::fs::remove_file(part).await;
        }
        written
    }

    /// Returns the bytes of the file. If the connection breaks, the transfer starts again.
    pub async fn to_bytes(self) -> Result<Vec<u8>> {
        let mut transfer = Transfer::new(self)?;
        loop {
            let mut bytes = Vec::new();
            match transfer.copy(&mut bytes).await {
                Ok(_) => return Ok(bytes),
                Err(error) => transfer.attempts.pause_after(error).await?,
            }
        }
    }

    /// Writes the bytes of the file to `writer`, and returns their number. If the connection breaks
    /// after the first bytes were written, the call fails.
    pub async fn to_writer(self, writer: &mut (impl AsyncWrite + Unpin + ?Sized)) -> Result<u64> {
        let mut transfer = Transfer::new(self)?;
        loop {
            match transfer.copy(writer).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) if transfer.written > 0 => return Err(error),
                Err(error) => transfer.attempts.pause_after(error).await?,
            }
        }
    }
}

struct Transfer {
    download: Download,
    deadline: Option<Instant>,
    attempts: Attempts,
    /// Number of bytes that the current attempt wrote.
    written: u64,
}

impl Transfer {
    fn new(download: Download) -> Result<Transfer> {
        if let DownloadRequest::Model(request) = &download.request {
            check_model("model", &request.model)?;
        }
        let deadline = deadline_after(download.timeout);
        let attempts = Attempts::new(download.client.0.retry, deadline);
        Ok(Transfer { download, deadline, attempts, written: 0 })
    }

    async fn copy(&mut self, writer: &mut (impl AsyncWrite + Unpin + ?Sized)) -> Result<u64> {
        self.written = 0;
        let failed = |error: std::io::Error| Error::io("the file cannot be written", &error);
        let mut pieces = within(self.deadline, self.open()).await??;
        while let Some(piece) = within(self.deadline, pieces.try_next()).await?.transpose() {
            let piece = piece.map_err(Error::from_status)?;
            writer.write_all(&piece).await.map_err(failed)?;
            self.written += piece.len() as u64;
        }
        writer.flush().await.map_err(failed)?;
        Ok(self.written)
    }

    async fn open(&self) -> Result<BoxStream<'static, std::result::Result<Bytes, Status>>> {
        let client = &self.download.client;
        Ok(match &self.download.request {
            DownloadRequest::Model(request) => {
                let request = client.request(request.clone(), self.deadline)?;
                let response = client.training().export_model(request).await;
                let response = response.map_err(Error::from_status)?;
                response.into_inner().map_ok(|piece| piece.data).boxed()
            }
            DownloadRequest::Backup(request) => {
                let request = client.request(request.clone(), self.deadline)?;
                let response = client.admin().create_backup(request).await;
                let response = response.map_err(Error::from_status)?;
                response.into_inner().map_ok(|piece| piece.data).boxed()
            }
        })
    }
}

/// Where the bytes of a file come from.
pub enum FileSource {
    /// A file, which can be read again.
    Path(PathBuf),
    /// Bytes in memory, which can be read again.
    Bytes(Bytes),
    /// A stream, which can be read once. A call that reads it is not retried once bytes were read.
    Reader(Box<dyn AsyncRead + Send + Unpin>),
}

impl FileSource {
    /// A stream of bytes.
    pub fn reader(reader: impl AsyncRead + Send + Unpin + 'static) -> FileSource {
        FileSource::Reader(Box::new(reader))
    }

    fn can_be_read_again(&self) -> bool {
        !matches!(self, FileSource::Reader(_))
    }

    async fn open(&mut self) -> Result<Pin<Box<dyn AsyncRead + Send + '_>>> {
        Ok(match self {
            FileSource::Path(path) => Box::pin(
                File::open(&path)
                    .await
                    .map_err(|error| Error::io(&path.display().to_string(), &error))?,
            ),
            FileSource::Bytes(bytes) => Box::pin(&bytes[..]),
            FileSource::Reader(reader) => Box::pin(reader),
        })
    }

    /// Sends the bytes in pieces that fit into a message; at least one. Returns early if the call
    /// has ended.
    async fn feed<T>(
        &mut self,
        sender: mpsc::Sender<T>,
        mut message: impl FnMut(Bytes) -> T,
    ) -> Result<()> {
        let mut reader = self.open().await?;
        let mut first = true;
        loop {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            while piece.len() < PIECE_BYTES {
                let read = reader.read_buf(&mut piece).await;
                if read.map_err(|error| Error::io("the file cannot be read", &error))? == 0 {
                    break;
                }
            }
            if piece.is_empty() && !first {
                return Ok(());
            }
            first = false;
            if sender.send(message(piece.freeze())).await.is_err() {
                return Ok(());
            }
        }
    }
}

impl From<PathBuf> for FileSource {
    fn from(path: PathBuf) -> FileSource {
        FileSource::Path(path)
    }
}

impl From<&Path> for FileSource {
    fn from(path: &Path) -> FileSource {
        FileSource::Path(path.into())
    }
}

impl From<&PathBuf> for FileSource {
    fn from(path: &PathBuf) -> FileSource {
        FileSource::Path(path.clone())
    }
}

impl From<Vec<u8>> for FileSource {
    fn from(bytes: Vec<u8>) -> FileSource {
        FileSource::Bytes(bytes.into())
    }
}

impl From<Bytes> for FileSource {
    fn from(bytes: Bytes) -> FileSource {
        FileSource::Bytes(bytes)
    }
}

/// Waits for a call and for the feeder of its stream, which may end first.
async fn drive<T>(
    call: impl Future<Output = Result<std::result::Result<tonic::Response<T>, Status>>>,
    feed: impl Future<Output = Result<()>>,
) -> Result<T> {
    let mut call = pin!(call);
    let response = tokio::select! {
        response = &mut call => response,
        fed = feed => {
            fed?;
            call.await
        }
    };
    Ok(response?.map_err(Error::from_status)?.into_inner())
}

/// An import: see [`Client::import_model`]. Await it to make it.
///
/// It is retried with the same request id if the source can be read again: a path, or bytes.
#[must_use = "an import is made when it is awaited"]
pub struct ImportModel {
    client: Client,
    first: ImportModelRequest,
    source: FileSource,
    timeout: Option<Duration>,
}

impl ImportModel {
    pub(crate) fn new(client: &Client, source: FileSource) -> ImportModel {
        let first = ImportModelRequest::default();
        ImportModel { client: client.clone(), first, source, timeout: None }
    }

    /// Sets the id of the model. Default: the server draws one.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.first.model_id = id.into();
        self
    }

    /// Sets when the server responds to changes of the model.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.first.durability = durability as i32;
        self
    }

    /// Sets the id that makes retries safe. Default: a random id.
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.first.request_id = id.into();
        self
    }

    /// Ends the transfer after this time. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(mut self) -> Result<Model> {
        fill_request_id(&mut self.first.request_id);
        let deadline = deadline_after(self.timeout);
        let mut attempts = Attempts::new(self.client.0.retry, deadline);
        loop {
            match self.attempt(deadline).await {
                Ok(model) => return Ok(model),
                Err(error) if !self.source.can_be_read_again() => return Err(error),
                Err(error) => attempts.pause_after(error).await?,
            }
        }
    }

    async fn attempt(&mut self, deadline: Option<Instant>) -> Result<Model> {
        let (sender, receiver) = mpsc::channel(1);
        let request = self.client.request(ReceiverStream::new(receiver), deadline)?;
        let mut stub = self.client.training();
        let mut next = Some(self.first.clone());
        let message = move |data| ImportModelRequest { data, ..next.take().unwrap_or_default() };
        let feed = self.source.feed(sender, message);
        let response = drive(within(deadline, stub.import_model(request)), feed).await?;
        response.model.ok_or_else(|| Error::new(Code::Internal, "the response has no model"))
    }
}

impl IntoFuture for ImportModel {
    type Output = Result<Model>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A restoration: see [`Client::restore_backup`]. Await it to make it.
#[must_use = "a backup is restored when it is awaited"]
pub struct RestoreBackup {
    client: Client,
    source: FileSource,
    timeout: Option<Duration>,
}

impl RestoreBackup {
    pub(crate) fn new(client: &Client, source: FileSource) -> RestoreBackup {
        RestoreBackup { client: client.clone(), source, timeout: None }
    }

    /// Ends the transfer after this time. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(mut self) -> Result<RestoreBackupResponse> {
        let deadline = deadline_after(self.timeout);
        let (sender, receiver) = mpsc::channel(1);
        let request = self.client.request(ReceiverStream::new(receiver), deadline)?;
        let mut stub = self.client.admin();
        let feed = self.source.feed(sender, |data| RestoreBackupRequest { data });
        drive(within(deadline, stub.restore_backup(request)), feed).await
    }
}

impl IntoFuture for RestoreBackup {
    type Output = Result<RestoreBackupResponse>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
