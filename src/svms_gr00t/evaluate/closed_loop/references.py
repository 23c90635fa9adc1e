"""Published success rates to print beside ours, in percent; not measured here.

Sources: the RoboCasa table in Isaac-GR00T's N1.6 examples (24 tasks, RoboCasa 0.2), and the public RoboCasa365
leaderboard (entry of 2026-05-14; batch 128, 120,000 steps, RoboCasa 1.0.1).
"""

N1D6_24 = {
    "CoffeeSetupMug": 31.0,
    "CoffeeServeMug": 63.5,
    "CoffeePressButton": 98.5,
    "OpenSingleDoor": 81.5,
    "OpenDoubleDoor": 39.0,
    "CloseSingleDoor": 96.0,
    "CloseDoubleDoor": 88.5,
    "OpenDrawer": 81.1,
    "CloseDrawer": 100.0,
    "TurnOnMicrowave": 91.5,
    "TurnOffMicrowave": 96.0,
    "PnPCounterToCab": 47.5,
    "PnPCabToCounter": 41.0,
    "PnPCounterToSink": 46.0,
    "PnPSinkToCounter": 50.0,
    "PnPCounterToMicrowave": 19.0,
    "PnPMicrowaveToCounter": 24.5,
    "PnPCounterToStove": 63.2,
    "PnPStoveToCounter": 54.5,
    "TurnOnSinkFaucet": 89.0,
    "TurnOffSinkFaucet": 93.5,
    "TurnSinkSpout": 87.0,
    "TurnOnStove": 76.5,
    "TurnOffStove": 31.0,
}
"""GR00T N1.6-3B by task."""
N1D6_24_MEAN = 66.2
ROBOCASA365 = {
    "GR00T N1.6": {"atomic seen": 51.1, "composite seen": 9.4, "composite unseen": 1.7},
    "GR00T N1.5": {"atomic seen": 50.7, "composite seen": 14.8, "composite unseen": 2.7},
}
"""Means over the 18, 16 and 16 tasks of the target split."""
ROBOCASA365_TASKS = {"atomic seen": 18, "composite seen": 16, "composite unseen": 16}
