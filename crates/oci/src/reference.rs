//! Image references and their normal form.
