use crate::sh::Result;
pub(crate) fn run(_: &[String]) -> Result<()> {
    Ok(())
}
