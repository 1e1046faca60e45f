//! COPY on trees, one table for each rule. A row is what stands after COPY, and the layer that it makes.

mod dest;
mod digest;
mod kit;
mod sources;
mod unpack;
