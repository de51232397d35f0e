//! The file in which a node notes the address it tells others, so that a ticket can be made while it is
//! not running.

use std::fs;
use std::io;
use std::path::Path;

const ADDRESS_FILE: &str = "address";

/// Notes `address`, or that there is none.
pub(crate) fn write(data: &Path, address: Option<&str>) -> io::Result<()> {
    match address {
        Some(address) => fs::write(data.join(ADDRESS_FILE), format!("{address}\n")),
        None => match fs::remove_file(data.join(ADDRESS_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

/// What was noted last.
pub(crate) fn read(data: &Path) -> Option<String> {
    let text = fs::read_to_string(data.join(ADDRESS_FILE)).ok()?;
    let address = text.trim();
    (!address.is_empty()).then(|| address.to_owned())
}
