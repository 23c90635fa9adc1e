"""SVMS on GR00T N1.6 as a policy of LeRobot. Importing it registers `--policy.type=svms_gr00t`."""

from lerobot_policy_svms_gr00t.configuration_svms_gr00t import SvmsGr00tConfig

__all__ = ["SvmsGr00tConfig"]
