//! Many steps in flight.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use crate::call::{Attempts, BoxFuture, fill_request_id};
use crate::client::{Client, check_model};
use crate::error::{Code, Error, Result};
use crate::v1::{
    Batch, StepRequest, StepResponse, StepStreamRequest, StepStreamResponse,
    step_stream_response::Outcome,
};

/// The server remembers 64 ids for each model, and leaves 64 steps unanswered.
const MAX_IN_FLIGHT: usize = 64;

/// A step of a [`Steps`] stream: a batch, or a batch with an expected step or a request id.
#[derive(Clone, Debug, Default)]
pub struct StepInput(StepRequest);

impl StepInput {
    /// A step on a batch.
    pub fn new(batch: Batch) -> StepInput {
        StepInput(StepRequest { batch: Some(batch), ..Default::default() })
    }

    /// Makes the step only if the model is at this step.
    pub fn expected_step(mut self, step: i64) -> StepInput {
        self.0.expected_step = Some(step);
        self
    }

    /// Sets the id that makes sending the step again safe. Default: a random id.
    pub fn request_id(mut self, id: impl Into<String>) -> StepInput {
        self.0.request_id = id.into();
        self
    }
}

impl From<Batch> for StepInput {
    fn from(batch: Batch) -> StepInput {
        StepInput::new(batch)
    }
}

/// The results of pipelined steps: a [`Stream`] with one item for each batch, in their order. See
/// [`Client::steps`].
///
/// Steps are applied in the order of the batches. Up to [`Steps::in_flight`] of them are sent
/// before their results arrive; batches are taken from their stream as there is room. If the
/// connection breaks, the steps without a result are sent again, in order and with the same request
/// ids, so that none is made twice.
///
/// A step that the server rejects is an `Err` item, and the steps after it are made. If the
/// connection cannot be restored, the last item is the error of the call.
///
/// ```no_run
/// use backprop_client::{Client, v1::Batch};
/// use futures_util::{StreamExt, stream};
///
/// # async fn example(client: Client, batches: Vec<Batch>) -> backprop_client::Result<()> {
/// let mut steps = client.steps("xor", stream::iter(batches)).in_flight(16);
/// while let Some(result) = steps.next().await {
///     let result = result?;
///     println!("step {}: loss {}", result.step, result.loss());
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "steps are made when their results are read"]
pub struct Steps {
    state: State,
}

enum State {
    Ready(Option<Pipeline>),
    Running(BoxStream<'static, Result<StepResponse>>),
}

impl Steps {
    pub(crate) fn new<S>(client: &Client, model: String, batches: S) -> Steps
    where
        S: Stream + Send + 'static,
        S::Item: Into<StepInput>,
    {
        let pipeline = Pipeline {
            attempts: Attempts::new(client.0.retry, None),
            client: client.clone(),
            model,
            batches: Some(batches.map(Into::<StepInput>::into).boxed()),
            in_flight: 32,
            unanswered: VecDeque::new(),
            call: None,
            ended: false,
        };
        Steps { state: State::Ready(Some(pipeline)) }
    }

    /// Sets the number of steps without a result, 1 to 64. Default: 32. Has no effect after the
    /// first result was asked for.
    pub fn in_flight(mut self, steps: usize) -> Steps {
        if let State::Ready(Some(pipeline)) = &mut self.state {
            pipeline.in_flight = steps.clamp(1, MAX_IN_FLIGHT);
        }
        self
    }

    /// Waits for the next result; none after the last. As `StreamExt::next`, without an import.
    pub async fn next(&mut self) -> Option<Result<StepResponse>> {
        StreamExt::next(self).await
    }
}

impl Stream for Steps {
    type Item = Result<StepResponse>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let State::Ready(pipeline) = &mut self.state {
            let results = stream::unfold(pipeline.take(), |pipeline| async move {
                let mut pipeline = pipeline?;
                let result = pipeline.next_result().await?;
                Some((result, Some(pipeline)))
            });
            self.state = State::Running(results.boxed());
        }
        match &mut self.state {
            State::Running(results) => results.poll_next_unpin(cx),
            State::Ready(_) => Poll::Ready(None),
        }
    }
}

type Opening =
    BoxFuture<'static, std::result::Result<Response<Streaming<StepStreamResponse>>, Status>>;

/// A call: the server answers its opening with the first result, so steps are sent before.
struct Call {
    /// Has room for all steps in flight.
    sender: mpsc::Sender<StepStreamRequest>,
    results: Results,
}

enum Results {
    Opening(Opening),
    Open(Box<Streaming<StepStreamResponse>>),
}

impl Results {
    /// The next result; none at the end of the stream. May be dropped before it is ready.
    async fn next(&mut self) -> std::result::Result<Option<StepStreamResponse>, Status> {
        if let Results::Opening(opening) = self {
            *self = Results::Open(Box::new(opening.await?.into_inner()));
        }
        match self {
            Results::Open(stream) => stream.message().await,
            Results::Opening(_) => Ok(None),
        }
    }
}

struct Pipeline {
    client: Client,
    model: String,
    /// None after the last batch.
    batches: Option<BoxStream<'static, StepInput>>,
    in_flight: usize,
    /// Steps that were sent, or are to be sent again; and errors of steps that were not sent, which
    /// wait for their turn.
    unanswered: VecDeque<Result<StepRequest>>,
    call: Option<Call>,
    attempts: Attempts,
    ended: bool,
}

impl Pipeline {
    async fn next_result(&mut self) -> Option<Result<StepResponse>> {
        loop {
            if self.ended {
                return None;
            }
            if self.batches.is_none() && self.unanswered.is_empty() {
                self.end_call().await;
                return None;
            }
            if let Some(Err(_)) = self.unanswered.front() {
                return self.unanswered.pop_front().and_then(Result::err).map(Err);
            }
            let error = match self.advance().await {
                Ok(None) => continue,
                Ok(Some(result)) => {
                    self.unanswered.pop_front();
                    self.attempts.reset();
                    return Some(result);
                }
                Err(error) => error,
            };
            self.call = None;
            if let Err(error) = self.attempts.pause_after(error).await {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }

    /// Waits for a result, or for a batch if there is room for one. An error is that of the call.
    async fn advance(&mut self) -> Result<Option<Result<StepResponse>>> {
        if self.call.is_none() {
            self.open()?;
        }
        let Some(call) = &mut self.call else { return Ok(None) };
        let room = self.unanswered.len() < self.in_flight;
        tokio::select! {
            result = call.results.next(), if !self.unanswered.is_empty() => {
                match result.map_err(Error::from_status)?.and_then(|response| response.outcome) {
                    Some(Outcome::Step(step)) => Ok(Some(Ok(step))),
                    Some(Outcome::Error(status)) => {
                        let error = Error::from_message(status);
                        // No step after this one is made either: they can be sent again in order.
                        if error.reason() == "SERVER_SHUTDOWN" { Err(error) } else { Ok(Some(Err(error))) }
                    }
                    None => Err(Error::new(Code::Unavailable, "the stream ended before its results")),
                }
            }
            batch = next_batch(&mut self.batches), if room && self.batches.is_some() => {
                let Some(StepInput(mut step)) = batch else {
                    self.batches = None;
                    return Ok(None);
                };
                step.model.clone_from(&self.model);
                fill_request_id(&mut step.request_id);
                let checked = check_model("step.model", &step.model)
                    .and_then(|()| step.batch.as_ref().map_or(Ok(()), |b| b.check("step.batch")));
                if let Err(error) = checked {
                    self.unanswered.push_back(Err(error));
                    return Ok(None);
                }
                // There is room, so this fails only if the call has ended, as its result will say.
                let _ = call.sender.try_send(StepStreamRequest { step: Some(step.clone()) });
                self.unanswered.push_back(Ok(step));
                Ok(None)
            }
        }
    }

    /// Tells the server that no more steps follow, and reads the status of the call.
    async fn end_call(&mut self) {
        if let Some(Call { sender, mut results }) = self.call.take() {
            drop(sender);
            let _ = timeout(Duration::from_secs(1), results.next()).await;
        }
        self.ended = true;
    }

    /// Starts a call and sends the steps without a result.
    fn open(&mut self) -> Result<()> {
        let (sender, receiver) = mpsc::channel(self.in_flight);
        for step in self.unanswered.iter().flatten() {
            let _ = sender.try_send(StepStreamRequest { step: Some(step.clone()) });
        }
        let request = self.client.request(ReceiverStream::new(receiver), None)?;
        let mut stub = self.client.training();
        let opening = Box::pin(async move { stub.step_stream(request).await });
        self.call = Some(Call { sender, results: Results::Opening(opening) });
        Ok(())
    }
}

async fn next_batch(batches: &mut Option<BoxStream<'static, StepInput>>) -> Option<StepInput> {
    batches.as_mut()?.next().await
}
