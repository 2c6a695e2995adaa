"""What the keeper process does with the snapshots of its service: the calls of `ports.keeper.Archive` on the vault."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from perdure.adapters.state.vault import Vault
from perdure.model import codec
from perdure.model.errors import ConfigError
from perdure.model.snapshot import Pin, Proof

KEY_BYTES = 32


class Shelf:
    """The vault of a service, opened once for each key."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._vaults: dict[bytes | None, Vault] = {}

    def vault(self, key_file: str) -> Vault:
        """ConfigError when the key cannot be read."""
        key = read_key(key_file) if key_file else None
        if key not in self._vaults:
            self._vaults[key] = Vault(self._directory, key)
        return self._vaults[key]


def read_key(file: str) -> bytes:
    """The key in a file: 32 bytes in hexadecimal. ConfigError names the file, and never says what is in it."""
    try:
        key = bytes.fromhex(Path(file).read_text(encoding="ascii").strip())
    except OSError as error:
        raise ConfigError(
            f"the key file {file} cannot be read: {error.strerror}", "correct `state.key_file`"
        ) from error
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(
            f"the key file {file} does not hold {KEY_BYTES} bytes in hexadecimal",
            f"make one: `openssl rand -hex 32 > {file}`",
        )
    return key


def calls(shelf: Shelf) -> dict[str, Callable[[dict[str, Any]], Any]]:
    """The calls by name; each is given its arguments, of which `key_file` is one."""

    def on(work: Callable[[Vault, dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        return lambda given: work(shelf.vault(given["key_file"]), given)

    return {
        "kept": on(lambda vault, given: codec.encode(vault.kept())),
        "verify": on(lambda vault, given: vault.verify(given["snapshot"])),
        "note": on(_note),
        "unpin": on(lambda vault, given: vault.unpin(given["snapshot"])),
        "mark": on(lambda vault, given: vault.mark(given["name"], given["snapshot"])),
        "unmark": on(lambda vault, given: vault.mark(given["name"], None)),
        "remove": on(lambda vault, given: vault.remove(given["snapshots"])),
        "transfer_out": on(lambda vault, given: vault.transfer_out(given["snapshot"], Path(given["file"]))),
        "transfer_in": on(lambda vault, given: codec.encode(vault.transfer_in(Path(given["file"])))),
    }


def _note(vault: Vault, given: dict[str, Any]) -> None:
    pin = None if given["pin"] is None else codec.decode(Pin, given["pin"])
    proof = None if given["proof"] is None else codec.decode(Proof, given["proof"])
    vault.note(given["snapshot"], pin, proof)
