"""SVMS as policies of LeRobot. Importing it registers `--policy.type=svms_gr00t` (N1.6) and `svms_gr00t_n1d7`."""

from lerobot_policy_svms_gr00t.configuration_svms_gr00t import SvmsGr00tConfig
from lerobot_policy_svms_gr00t.n1d7.configuration_n1d7 import SvmsGr00tN1d7Config

__all__ = ["SvmsGr00tConfig", "SvmsGr00tN1d7Config"]
