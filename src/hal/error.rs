//! What lies beneath did not do what it was asked.

use std::{fmt, io};

/// What a request gives.
pub type HalResult<T = ()> = Result<T, HalError>;

/// Whose fault it is, which decides the process's exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalErrorKind {
    /// This host lacks something: no /dev/kvm, no permission, a capability, memory.
    HostCannot,
    /// A call failed that should not have.
    Failed,
}

/// A failed request: what was asked, what the host answered, what to do about it.
#[derive(Debug)]
pub struct HalError {
    /// Whose fault it is.
    pub kind: HalErrorKind,
    /// What was asked, e.g. `create vCPU 3 (KVM_CREATE_VCPU)`.
    pub what: String,
    /// What to do about it, where there is something.
    pub hint: Option<String>,
    /// What the host answered, where it did.
    pub source: Option<io::Error>,
}

impl HalError {
    /// A call that should not have failed.
    pub fn failed(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self {
            kind: HalErrorKind::Failed,
            what: what.into(),
            hint: None,
            source: Some(source.into()),
        }
    }

    /// Something that this host cannot do.
    pub fn host_cannot(what: impl Into<String>) -> Self {
        Self { kind: HalErrorKind::HostCannot, what: what.into(), hint: None, source: None }
    }

    /// With what the host answered.
    pub fn because(mut self, source: impl Into<io::Error>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// With what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for HalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            HalErrorKind::HostCannot => write!(f, "This host cannot {}", self.what)?,
            HalErrorKind::Failed => write!(f, "Failed to {}", self.what)?,
        }
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
    }
}

// The source is part of the message, so that it is told once.
impl std::error::Error for HalError {}
