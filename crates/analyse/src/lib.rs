//! Facts about images: where every byte of one comes from, and which of them are dead weight.
