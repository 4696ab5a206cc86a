//! Runs: training, watching, their events.

use std::future::IntoFuture;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::time::{Instant, timeout};
use tonic::Status;

use crate::call::{Attempts, BoxFuture, deadline_after, fill_request_id, within};
use crate::client::{Client, check_model, dataset_name};
use crate::error::{Code, Error, Result};
use crate::v1::{
    Batch, CheckpointConfig, EarlyStopping, StopReason, TrainRequest, TrainingConfig,
    TrainingEvent, TrainingSummary, WatchTrainingRequest, training_config,
};

/// Rows for training, validation or evaluation: a batch that travels with the request, or a dataset
/// that was uploaded before.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Rows in the request.
    Batch(Batch),
    /// `datasets/{id}`.
    Dataset(String),
}

impl Data {
    /// A dataset by its name, with or without `datasets/`.
    pub fn dataset(name: impl AsRef<str>) -> Data {
        Data::Dataset(dataset_name(name))
    }

    /// As the two fields of a request, of which one is set.
    pub(crate) fn split(self) -> (Option<Batch>, String) {
        match self {
            Data::Batch(batch) => (Some(batch), String::new()),
            Data::Dataset(name) => (None, name),
        }
    }
}

impl From<Batch> for Data {
    fn from(batch: Batch) -> Data {
        Data::Batch(batch)
    }
}

type OnEvent<'a> = Box<dyn FnMut(&TrainingEvent) -> ControlFlow<()> + Send + 'a>;

/// A run that is being configured: see [`Client::train`].
///
/// Await it to train to the end and get the summary, or call [`Train::start`] to receive the events
/// as a stream. [`Train::iterations`] or [`Train::epochs`] must be set.
///
/// If the connection breaks, the client attaches to the run again. On a server with a data
/// directory this works across a restart too. Every event is delivered once.
#[must_use = "a run starts when it is awaited, or when its stream is read"]
pub struct Train<'a> {
    client: Client,
    request: TrainRequest,
    timeout: Option<Duration>,
    on_event: Option<OnEvent<'a>>,
}

impl<'a> Train<'a> {
    pub(crate) fn new(client: &Client, model: String, data: Data) -> Train<'a> {
        let (data, dataset) = data.split();
        let config = Some(TrainingConfig::default());
        let request = TrainRequest { model, data, dataset, config, ..Default::default() };
        Train { client: client.clone(), request, timeout: None, on_event: None }
    }

    fn configure(mut self, set: impl FnOnce(&mut TrainingConfig)) -> Self {
        set(self.request.config.get_or_insert_default());
        self
    }

    /// Sets the length of the run in optimiser steps.
    pub fn iterations(self, iterations: i64) -> Self {
        self.configure(|c| c.length = Some(training_config::Length::Iterations(iterations)))
    }

    /// Sets the length of the run in passes over the data.
    pub fn epochs(self, epochs: i64) -> Self {
        self.configure(|c| c.length = Some(training_config::Length::Epochs(epochs)))
    }

    /// Sets the number of rows in a step. Default: all rows.
    pub fn batch_size(self, rows: i32) -> Self {
        self.configure(|c| c.batch_size = Some(rows))
    }

    /// Sets whether each epoch visits the rows in a new order. Default: if a batch is smaller than
    /// the data.
    pub fn shuffle(self, shuffle: bool) -> Self {
        self.configure(|c| c.shuffle = Some(shuffle))
    }

    /// Sets the number of iterations between two reports. Default: a hundredth of the run.
    pub fn report_every(self, iterations: i64) -> Self {
        self.configure(|c| c.report_every = Some(iterations))
    }

    /// Sets the maximum time between two reports. Default: 1 s.
    pub fn report_interval(self, interval: Duration) -> Self {
        self.configure(|c| c.report_interval = prost_types::Duration::try_from(interval).ok())
    }

    /// Sets rows that are evaluated after every epoch.
    pub fn validation(mut self, data: impl Into<Data>) -> Self {
        (self.request.validation, self.request.validation_dataset) = data.into().split();
        self
    }

    /// Sets the fraction of the rows to hold out for validation.
    pub fn validation_split(self, fraction: f64) -> Self {
        self.configure(|c| c.validation_split = Some(fraction))
    }

    /// Ends the run when it stops improving.
    pub fn early_stopping(self, early_stopping: EarlyStopping) -> Self {
        self.configure(|c| c.early_stopping = Some(early_stopping))
    }

    /// Sets the checkpoints that the run creates.
    pub fn checkpoints(self, checkpoints: CheckpointConfig) -> Self {
        self.configure(|c| c.checkpoints = Some(checkpoints))
    }

    /// Sets the whole configuration, for settings that have no method here. Call it before the
    /// other methods.
    pub fn config(mut self, config: TrainingConfig) -> Self {
        self.request.config = Some(config);
        self
    }

    /// Lets the run continue when this call ends for any reason.
    pub fn detach(mut self) -> Self {
        self.request.detach = true;
        self
    }

    /// Waits for the end of an active run, instead of failing with `FAILED_PRECONDITION`.
    pub fn wait(mut self) -> Self {
        self.request.wait = true;
        self
    }

    /// Sets the id by which a call attaches to the run again. Default: a random id.
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request.request_id = id.into();
        self
    }

    /// Ends the call, and so the run unless it is detached, after this time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Calls `on_event` with each event. [`ControlFlow::Break`] cancels the call, which then fails
    /// with `CANCELLED`; the run stops unless it is detached. Replaces an earlier callback.
    pub fn on_event(
        mut self,
        on_event: impl FnMut(&TrainingEvent) -> ControlFlow<()> + Send + 'a,
    ) -> Self {
        self.on_event = Some(Box::new(on_event));
        self
    }

    /// Calls `on_progress` with each report of progress. Replaces an earlier callback.
    pub fn on_progress(
        self,
        mut on_progress: impl FnMut(&crate::v1::Progress) + Send + 'a,
    ) -> Self {
        self.on_event(move |event| {
            event.progress().into_iter().for_each(&mut on_progress);
            ControlFlow::Continue(())
        })
    }

    /// Returns the events of the run as a stream. The run starts when the stream is read. Callbacks
    /// are not called.
    pub fn start(mut self) -> Run {
        fill_request_id(&mut self.request.request_id);
        Run::new(Follow::new(&self.client, Source::Train(self.request), self.timeout))
    }
}

impl<'a> IntoFuture for Train<'a> {
    type Output = Result<TrainingSummary>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(mut self) -> Self::IntoFuture {
        let on_event = self.on_event.take();
        Box::pin(self.start().drive(on_event))
    }
}

/// A run to follow: see [`Client::watch`].
///
/// Await it to follow the run to its end and get the summary, or call [`Watch::start`] to receive
/// the events as a stream. If the connection breaks, the client goes on with the next event.
/// Dropping it does not stop the run.
#[must_use = "nothing is watched before it is awaited, or its stream is read"]
pub struct Watch<'a> {
    client: Client,
    request: WatchTrainingRequest,
    timeout: Option<Duration>,
    on_event: Option<OnEvent<'a>>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(client: &Client, model: String) -> Watch<'a> {
        let request = WatchTrainingRequest { model, ..Default::default() };
        Watch { client: client.clone(), request, timeout: None, on_event: None }
    }

    /// Sets the run, `models/{id}/runs/{n}`. Default: the active run, or the latest one.
    pub fn run_name(mut self, run: impl Into<String>) -> Self {
        self.request.run = run.into();
        self
    }

    /// Sets the sequence number of the first event. Default: the first event of the run.
    pub fn from_sequence(mut self, sequence: i64) -> Self {
        self.request.from_sequence = sequence;
        self
    }

    /// Ends the call after this time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Calls `on_event` with each event. [`ControlFlow::Break`] ends the call, which then fails
    /// with `CANCELLED`.
    pub fn on_event(
        mut self,
        on_event: impl FnMut(&TrainingEvent) -> ControlFlow<()> + Send + 'a,
    ) -> Self {
        self.on_event = Some(Box::new(on_event));
        self
    }

    /// Returns the events of the run as a stream. The callback is not called.
    pub fn start(self) -> Run {
        Run::new(Follow::new(&self.client, Source::Watch(self.request), self.timeout))
    }
}

impl<'a> IntoFuture for Watch<'a> {
    type Output = Result<TrainingSummary>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(mut self) -> Self::IntoFuture {
        let on_event = self.on_event.take();
        Box::pin(self.start().drive(on_event))
    }
}

/// The events of a run: a [`Stream`], which ends after the event with the summary or after an error.
///
/// Dropping the stream of a [`Train`] cancels the call. That stops the run, unless it is detached.
/// A run that resumes on a restarted server to which the client has not attached again does not
/// notice.
#[must_use = "dropping the events of a run cancels its call"]
pub struct Run {
    events: BoxStream<'static, Result<TrainingEvent>>,
    summary: Option<TrainingSummary>,
}

impl Run {
    fn new(follow: Follow) -> Run {
        let events = stream::try_unfold(follow, |mut follow| async move {
            Ok::<_, Error>(follow.next_event().await?.map(|event| (event, follow)))
        });
        Run { events: events.boxed(), summary: None }
    }

    /// Waits for the next event; none after the last. As `StreamExt::next`, without an import.
    pub async fn next(&mut self) -> Option<Result<TrainingEvent>> {
        StreamExt::next(self).await
    }

    /// Waits for the end of the run and returns its summary.
    ///
    /// # Errors
    ///
    /// That of the call.
    pub async fn finish(self) -> Result<TrainingSummary> {
        self.drive(None).await
    }

    async fn drive(mut self, mut on_event: Option<OnEvent<'_>>) -> Result<TrainingSummary> {
        while let Some(event) = self.next().await {
            let event = event?;
            if let Some(on_event) = &mut on_event
                && on_event(&event).is_break()
            {
                return Err(Error::new(Code::Cancelled, "the callback cancelled the call"));
            }
        }
        self.summary.ok_or_else(without_summary)
    }
}

impl Stream for Run {
    type Item = Result<TrainingEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.events.poll_next_unpin(cx));
        if let Some(Ok(event)) = &next
            && let Some(summary) = event.summary()
        {
            self.summary = Some(summary.clone());
        }
        Poll::Ready(next)
    }
}

fn without_summary() -> Error {
    Error::new(Code::Unavailable, "the stream ended without a summary")
}

enum Source {
    Train(TrainRequest),
    Watch(WatchTrainingRequest),
}

/// Reads the events of a run over as many calls as it takes.
struct Follow {
    client: Client,
    source: Source,
    deadline: Option<Instant>,
    attempts: Attempts,
    events: Option<BoxStream<'static, std::result::Result<Option<TrainingEvent>, Status>>>,
    /// Sequence number of the first event that was not delivered.
    next: i64,
    /// Whether a call broke before the end of the run.
    broke: bool,
    ended: bool,
}

impl Follow {
    fn new(client: &Client, source: Source, timeout: Option<Duration>) -> Follow {
        let deadline = deadline_after(timeout);
        Follow {
            client: client.clone(),
            source,
            deadline,
            attempts: Attempts::new(client.0.retry, deadline),
            events: None,
            next: 1,
            broke: false,
            ended: false,
        }
    }

    async fn next_event(&mut self) -> Result<Option<TrainingEvent>> {
        if self.ended {
            return Ok(None);
        }
        if self.next == 1 && !self.broke {
            self.check()?;
        }
        loop {
            let error = match within(self.deadline, self.receive()).await? {
                Ok(Some(event)) if event.sequence < self.next => continue,
                Ok(Some(event)) => {
                    self.next = event.sequence + 1;
                    self.attempts.reset();
                    if let Source::Watch(request) = &mut self.source {
                        // Another run may be the latest one when the client comes back.
                        request.run.clone_from(&event.run);
                    }
                    if let Some(summary) = event.summary() {
                        self.ended = true;
                        self.check_broken(summary)?;
                        self.end_call().await;
                    }
                    return Ok(Some(event));
                }
                Ok(None) => without_summary(),
                Err(error) => error,
            };
            self.events = None;
            self.attempts.pause_after(error).await?;
            self.broke = true;
        }
    }

    fn check(&self) -> Result<()> {
        let Source::Train(request) = &self.source else {
            let Source::Watch(request) = &self.source else { return Ok(()) };
            return check_model("model", &request.model);
        };
        check_model("model", &request.model)?;
        for (field, batch) in [("data", &request.data), ("validation", &request.validation)] {
            if let Some(batch) = batch {
                batch.check(field)?;
            }
        }
        Ok(())
    }

    /// Returns the next event of the call, which it opens if there is none.
    async fn receive(&mut self) -> Result<Option<TrainingEvent>> {
        let events = match &mut self.events {
            Some(events) => events,
            None => {
                let events = self.open().await?;
                self.events.insert(events)
            }
        };
        let event = events.try_next().await.map_err(Error::from_status)?;
        Ok(event.flatten())
    }

    async fn open(
        &self,
    ) -> Result<BoxStream<'static, std::result::Result<Option<TrainingEvent>, Status>>> {
        let mut stub = self.client.training();
        Ok(match &self.source {
            Source::Train(request) => {
                let request = self.client.request(request.clone(), self.deadline)?;
                let response = stub.train(request).await.map_err(Error::from_status)?;
                response.into_inner().map_ok(|response| response.event).boxed()
            }
            Source::Watch(request) => {
                let mut request = request.clone();
                if self.broke {
                    request.from_sequence = request.from_sequence.max(self.next);
                }
                let request = self.client.request(request, self.deadline)?;
                let response = stub.watch_training(request).await.map_err(Error::from_status)?;
                response.into_inner().map_ok(|response| response.event).boxed()
            }
        })
    }

    /// A run that was cancelled because the connection broke is not a result.
    fn check_broken(&self, summary: &TrainingSummary) -> Result<()> {
        let Source::Train(request) = &self.source else { return Ok(()) };
        if !self.broke || request.detach || summary.stop_reason() != StopReason::Cancelled {
            return Ok(());
        }
        let message = format!(
            "the connection broke, which stopped the run after {} iterations; a detached run would \
             have continued",
            summary.iterations
        );
        Err(Error::new(Code::Unavailable, message)
            .with_reason("CONNECTION_BROKE", &[("iterations", summary.iterations.to_string())]))
    }

    /// Reads the status of a call that delivered its last event, so that it ends as completed.
    async fn end_call(&mut self) {
        if let Some(mut events) = self.events.take() {
            let _ = timeout(Duration::from_secs(1), events.next()).await;
        }
    }
}
