"""The part of `scan` that checks a threat model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from flows.command import Settings
from flows.settings import context, result
from gauntlet.errors import SettingError
from gauntlet.state import shipped

OWN = "threat_model.yaml"


class ThreatModelSettings(Settings):
    """A threat model to check, instead of the flow's usual work."""

    threat_model: str | None = Field(
        None,
        description="check a threat model instead; without a file the project's own, threat_model.yaml",
        json_schema_extra={"bare": OWN},
    )
    strict: bool = Field(False, description="with --threat-model: also fail when evidence is missing")

    @model_validator(mode="after")
    def _alone(self) -> ThreatModelSettings:
        if self.strict and not self.threat_model:
            raise SettingError("nothing to be strict about", where="--strict", fix="give --threat-model, too")
        if self.threat_model and (others := self._others()):
            flag = f"--{others[0].replace('_', '-')}"
            raise SettingError("a threat model is checked alone", where="--threat-model", fix=f"leave out {flag}")
        return self

    def _others(self) -> list[str]:
        """What else was asked for: settings of the flow itself that are not as usual."""
        mine = [name for name in type(self).model_fields if name not in ThreatModelSettings.model_fields]
        usual = {name: type(self).model_fields[name].get_default(call_default_factory=True) for name in mine}
        return [name for name in mine if getattr(self, name) != usual[name]]

    def check(self) -> None:
        """No data set is read; a threat model is, before a server is started."""
        if self.threat_model:
            from gauntlet.assurance.stride.threat_model import load

            load(_path(self.threat_model))


def _path(name: str) -> Path:
    """The file of that name; the project's own is found from any folder."""
    return shipped(OWN) if name == OWN and not Path(OWN).is_file() else Path(name)


def threats(config: ThreatModelSettings) -> dict[str, Any]:
    """Check the threat model that the config names."""
    from tasks.threat_model import threat_model

    return result(threat_model(context(config), str(_path(config.threat_model or OWN)), config.strict), config)
