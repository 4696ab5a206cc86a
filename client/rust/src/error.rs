//! The error of a call.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use prost::Message;

use crate::proto::google::rpc;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// The canonical codes of gRPC, without `OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// The call was cancelled.
    Cancelled,
    /// The cause is not known.
    Unknown,
    /// A field of the request is wrong: see [`Error::violations`].
    InvalidArgument,
    /// The deadline of the call was reached.
    DeadlineExceeded,
    /// There is no such resource.
    NotFound,
    /// The id is in use.
    AlreadyExists,
    /// The role of the caller is too low.
    PermissionDenied,
    /// A limit or a quota is reached.
    ResourceExhausted,
    /// The state of the resource does not allow the call, for example because a run is under way.
    FailedPrecondition,
    /// The model is not at the expected step.
    Aborted,
    /// A value is out of range.
    OutOfRange,
    /// The server does not know the call.
    Unimplemented,
    /// An invariant of the server or of the transport is broken.
    Internal,
    /// The server cannot be reached, is overloaded, or stops.
    Unavailable,
    /// Stored records are damaged.
    DataLoss,
    /// The server does not know the caller.
    Unauthenticated,
}

impl Code {
    /// The name of the code in gRPC, such as `INVALID_ARGUMENT`.
    pub fn name(self) -> &'static str {
        match self {
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }

    fn from_number(number: i32) -> Code {
        match number {
            1 => Code::Cancelled,
            3 => Code::InvalidArgument,
            4 => Code::DeadlineExceeded,
            5 => Code::NotFound,
            6 => Code::AlreadyExists,
            7 => Code::PermissionDenied,
            8 => Code::ResourceExhausted,
            9 => Code::FailedPrecondition,
            10 => Code::Aborted,
            11 => Code::OutOfRange,
            12 => Code::Unimplemented,
            13 => Code::Internal,
            14 => Code::Unavailable,
            15 => Code::DataLoss,
            16 => Code::Unauthenticated,
            _ => Code::Unknown,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A field of a request that was rejected, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field in the request, such as `spec.layers[0].units`.
    pub field: String,
    /// What was expected and what the request held, such as `must be at least 1, got 0`.
    pub description: String,
}

/// Why a call failed: the code, the message and the details that the server sent.
///
/// The client makes such errors itself for a request that cannot be right (`INVALID_ARGUMENT`), for
/// a connection that cannot be made or that breaks (`UNAVAILABLE`), and for a deadline
/// (`DEADLINE_EXCEEDED`).
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    code: Code,
    message: String,
    violations: Vec<FieldViolation>,
    reason: String,
    metadata: BTreeMap<String, String>,
    retry_delay: Option<Duration>,
}

impl Error {
    /// The code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What happened, for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The wrong fields of the request, with `INVALID_ARGUMENT`.
    pub fn violations(&self) -> &[FieldViolation] {
        &self.0.violations
    }

    /// The reason, such as `STEP_MISMATCH`; empty if the server gave none. docs/api.md of the
    /// server lists all reasons.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// Details of the reason, such as `current_step` of `STEP_MISMATCH`.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// How long the server asks to wait before a retry.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.0.retry_delay
    }

    /// The model's step count, if the error is `ABORTED` because the expected step was another one.
    pub fn current_step(&self) -> Option<i64> {
        self.metadata_number("current_step")
    }

    pub(crate) fn metadata_number(&self, key: &str) -> Option<i64> {
        self.0.metadata.get(key)?.parse().ok()
    }

    pub(crate) fn new(code: Code, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            code,
            message: message.into(),
            violations: Vec::new(),
            reason: String::new(),
            metadata: BTreeMap::new(),
            retry_delay: None,
        }))
    }

    pub(crate) fn with_reason(mut self, reason: &str, metadata: &[(&str, String)]) -> Error {
        self.0.reason = reason.into();
        self.0.metadata = metadata.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        self
    }

    /// A field of the request is wrong.
    pub(crate) fn field(field: impl Into<String>, description: impl Into<String>) -> Error {
        let violation = FieldViolation { field: field.into(), description: description.into() };
        let mut error = Error::new(
            Code::InvalidArgument,
            format!("{}: {}", violation.field, violation.description),
        );
        error.0.violations.push(violation);
        error
    }

    pub(crate) fn deadline() -> Error {
        Error::new(Code::DeadlineExceeded, "the deadline of the call was reached")
    }

    pub(crate) fn io(what: &str, error: &std::io::Error) -> Error {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            std::io::ErrorKind::PermissionDenied => Code::PermissionDenied,
            _ => Code::Unknown,
        };
        Error::new(code, format!("{what}: {error}"))
    }

    /// From the status of a step in a stream.
    pub(crate) fn from_message(status: rpc::Status) -> Error {
        let mut error = Error::new(Code::from_number(status.code), status.message);
        error.add_details(status.details);
        error
    }

    /// From the final status of a call. A connection that broke is `UNAVAILABLE`, in every form in
    /// which the transport reports it; so is a call that the server cancelled, as it does when it
    /// stops, because a caller of this crate cancels by dropping.
    pub(crate) fn from_status(status: tonic::Status) -> Error {
        if let Some(cause) = status.source() {
            if is_timeout(cause) {
                return Error::deadline();
            }
            return Error::new(Code::Unavailable, chain(cause));
        }
        let broken = matches!(status.code(), tonic::Code::Unknown | tonic::Code::Internal)
            && status.details().is_empty()
            && ENDED_EARLY.iter().any(|start| status.message().starts_with(start));
        let code = if broken || status.code() == tonic::Code::Cancelled {
            Code::Unavailable
        } else {
            Code::from_number(status.code() as i32)
        };
        let mut error = Error::new(code, status.message());
        if status.code() == tonic::Code::Cancelled && status.message().is_empty() {
            error.0.message = "the server cancelled the call".into();
        }
        if let Ok(details) = rpc::Status::decode(status.details()) {
            error.add_details(details.details);
        }
        error
    }

    fn add_details(&mut self, details: Vec<prost_types::Any>) {
        for any in details {
            let inner = &mut self.0;
            match any.type_url.rsplit('/').next() {
                Some("google.rpc.BadRequest") => {
                    let Ok(bad) = rpc::BadRequest::decode(&any.value[..]) else { continue };
                    inner.violations.extend(bad.field_violations.into_iter().map(|violation| {
                        FieldViolation {
                            field: violation.field,
                            description: violation.description,
                        }
                    }));
                }
                Some("google.rpc.ErrorInfo") => {
                    let Ok(info) = rpc::ErrorInfo::decode(&any.value[..]) else { continue };
                    inner.reason = info.reason;
                    inner.metadata = info.metadata;
                }
                Some("google.rpc.RetryInfo") => {
                    let Ok(retry) = rpc::RetryInfo::decode(&any.value[..]) else { continue };
                    // A negative time counts as none.
                    inner.retry_delay =
                        Some(retry.retry_delay.and_then(|d| d.try_into().ok()).unwrap_or_default());
                }
                _ => {}
            }
        }
    }
}

/// How tonic says that a response ended before its status arrived.
const ENDED_EARLY: [&str; 3] = [
    "protocol error: missing grpc-status trailer",
    "Unexpected EOF decoding stream",
    "Missing response message",
];

fn is_timeout(error: &(dyn StdError + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(|error| error.is::<tonic::TimeoutExpired>())
}

/// The messages of an error and of its causes.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for error in std::iter::successors(Some(error), |error| error.source()) {
        let message = error.to_string();
        if !text.contains(&message) {
            if !text.is_empty() {
                text += ": ";
            }
            text += &message;
        }
    }
    text
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Error {}
