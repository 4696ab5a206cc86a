//! Uploads of datasets.

use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;

use crate::call::{Attempts, BoxFuture, deadline_after, fill_request_id, within};
use crate::client::{Client, check_name, dataset_name};
use crate::error::{Code, Error, Result};
use crate::v1::{
    Batch, DataType, Dataset, DatasetChunk, DatasetCommit, DatasetHeader, UploadDatasetRequest,
    upload_dataset_request::Part,
};

/// Size of a chunk, far below the limit of a message. A larger row is a chunk of its own.
const CHUNK_BYTES: usize = 1 << 20;

type RowSource<'a> = Box<dyn FnMut(usize) -> Result<Option<Batch>> + Send + 'a>;

/// An upload: see [`Client::upload_dataset`]. Await it to make it.
///
/// Rows travel in chunks of about 1 MiB with checksums. If the connection breaks, the upload goes
/// on with the first row that the server does not have.
#[must_use = "an upload is made when it is awaited"]
pub struct UploadDataset<'a> {
    client: Client,
    header: DatasetHeader,
    rows: RowSource<'a>,
    /// What is wrong with the rows of a batch.
    wrong: Option<Error>,
    chunk_rows: Option<usize>,
    on_progress: Option<Box<dyn FnMut(usize) + Send + 'a>>,
    timeout: Option<Duration>,
}

impl<'a> UploadDataset<'a> {
    pub(crate) fn of_rows(client: &Client, id: &str, rows: RowSource<'a>) -> Self {
        let name = dataset_name(id);
        let dataset_id = name.strip_prefix("datasets/").unwrap_or_default().to_string();
        UploadDataset {
            client: client.clone(),
            header: DatasetHeader { dataset_id, ..Default::default() },
            rows,
            wrong: None,
            chunk_rows: None,
            on_progress: None,
            timeout: None,
        }
    }

    pub(crate) fn of_batch(client: &Client, id: &str, batch: Batch) -> Self {
        let wrong = check_chunk(&batch).err();
        let all = batch.rows();
        let rows = move |first: usize| Ok((first < all).then(|| batch.slice(first, all - first)));
        UploadDataset { wrong, ..UploadDataset::of_rows(client, id, Box::new(rows)) }
    }

    /// Sets the precision in which rows are stored: [`DataType::Float32`] or [`DataType::Float64`].
    pub fn data_type(mut self, data_type: DataType) -> Self {
        self.header.data_type = data_type as i32;
        self
    }

    /// Sets labels for the caller's use.
    pub fn labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.header.labels = labels;
        self
    }

    /// Sets the names of the features.
    pub fn feature_names<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.header.feature_names = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the number of rows in a chunk. Default: as many as have 1 MiB.
    pub fn chunk_rows(mut self, rows: usize) -> Self {
        self.chunk_rows = Some(rows.max(1));
        self
    }

    /// Sets the id of the upload: a call with the same id continues it. Default: a random id.
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.header.request_id = id.into();
        self
    }

    /// Calls `on_progress` after each chunk with the number of rows that were sent.
    pub fn on_progress(mut self, on_progress: impl FnMut(usize) + Send + 'a) -> Self {
        self.on_progress = Some(Box::new(on_progress));
        self
    }

    /// Ends the upload after this time. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(mut self) -> Result<Dataset> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        check_name("header.dataset_id", &self.header.dataset_id, "an id")?;
        fill_request_id(&mut self.header.request_id);
        let deadline = deadline_after(self.timeout);
        let mut attempts = Attempts::new(self.client.0.retry, deadline);
        let mut known = 0; // rows that the server has
        loop {
            let error = match self.attempt(known, deadline).await {
                Ok(dataset) => return Ok(dataset),
                Err(error) => error,
            };
            let before = known;
            if error.reason() == "ROWS_MISSING" {
                // Rows were lost or deleted since the client asked how many there are.
                let expected = error.metadata_number("expected_row");
                known = usize::try_from(expected.unwrap_or(0)).unwrap_or(0);
                if known == before {
                    return Err(error);
                }
                let lost = Error::new(Code::Unavailable, error.message());
                attempts.pause_after(lost).await.map_err(|_| error)?;
                continue;
            }
            attempts.pause_after(error).await?;
            let mut ask = self.client.get_dataset(&self.header.dataset_id);
            if let Some(at) = deadline {
                ask = ask.timeout(at.saturating_duration_since(Instant::now()));
            }
            let there = ask.await;
            known = there.map_or(0, |dataset| dataset.rows.max(0) as usize);
            if known > before {
                attempts.reset();
            }
        }
    }

    /// Makes one call, which sends the rows from `first` on.
    async fn attempt(&mut self, first: usize, deadline: Option<Instant>) -> Result<Dataset> {
        let (sender, receiver) = mpsc::channel(1);
        let request = self.client.request(ReceiverStream::new(receiver), deadline)?;
        let mut stub = self.client.training();
        let mut call = pin!(within(deadline, stub.upload_dataset(request)));
        let mut feed = pin!(self.feed(first, sender));
        let response = tokio::select! {
            response = &mut call => response,
            fed = &mut feed => {
                fed?;
                call.await
            }
        };
        let response = response?.map_err(Error::from_status)?.into_inner();
        response.dataset.ok_or_else(|| Error::new(Code::Internal, "the response has no dataset"))
    }

    /// Sends header, rows and commit. Returns early if the call has ended.
    async fn feed(
        &mut self,
        first: usize,
        sender: mpsc::Sender<UploadDatasetRequest>,
    ) -> Result<()> {
        let message = |part| UploadDatasetRequest { part: Some(part) };
        if sender.send(message(Part::Header(self.header.clone()))).await.is_err() {
            return Ok(());
        }
        let mut sent = first;
        while let Some(batch) = (self.rows)(sent)? {
            check_chunk(&batch)?;
            if batch.rows() == 0 {
                return Err(Error::field("chunk.rows.inputs", "expected at least 1 row, got 0"));
            }
            let at_once = (CHUNK_BYTES / batch.row_bytes()).max(1);
            let at_once = self.chunk_rows.unwrap_or(at_once);
            for start in (0..batch.rows()).step_by(at_once) {
                let rows = batch.slice(start, at_once.min(batch.rows() - start));
                let chunk = DatasetChunk {
                    first_row: sent as i64,
                    crc32: rows.stored_crc32(self.header.data_type())?,
                    rows: Some(rows),
                };
                sent += chunk.rows.as_ref().map_or(0, Batch::rows);
                if sender.send(message(Part::Chunk(chunk))).await.is_err() {
                    return Ok(());
                }
                if let Some(on_progress) = &mut self.on_progress {
                    on_progress(sent);
                }
            }
        }
        let commit = DatasetCommit { rows: sent as i64 };
        let _ = sender.send(message(Part::Commit(commit))).await;
        Ok(())
    }
}

/// Rows can be cut out if inputs have two dimensions, and all parts as many rows as they.
fn check_chunk(batch: &Batch) -> Result<()> {
    let shape = batch.inputs.as_ref().map_or(&[][..], |inputs| &inputs.shape);
    if shape.len() != 2 {
        return Err(Error::field(
            "chunk.rows.inputs.shape",
            format!("expected two dimensions, got {shape:?}"),
        ));
    }
    batch.check_rows("chunk.rows")
}

impl<'a> IntoFuture for UploadDataset<'a> {
    type Output = Result<Dataset>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
