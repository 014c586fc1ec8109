//! `dial`: a service on standard input and output; `trace dial`: which way a dial goes, and where its time does.

mod pipe;
mod steps;
mod traced;

pub(crate) use self::{
    pipe::pipe,
    traced::{Wanted, traced},
};
