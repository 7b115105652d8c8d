"""What is said of the ends that no line of the log tells of."""

from __future__ import annotations

from engine.i18n import N_
from engine.run.rules import FULL_GPU, Rule

SPOKEN = {
    "exception": Rule("", "", N_("{error}"), N_("The log holds the whole traceback.")),
    "interrupted": Rule("", "", N_("It was interrupted (Ctrl-C)."), N_("It can be resumed.")),
    "signal-9": Rule(
        "",
        "",
        N_("It was killed from outside (signal 9), or by the system for lack of memory."),
        N_("If nobody killed it, free host memory; then resume."),
    ),
    "oom-host": Rule(
        "",
        "",
        N_("Host out of memory: the kernel killed process {pid} ({name}, {size})."),
        N_("Use fewer data workers or a smaller model, or ask for more memory; then resume."),
    ),
    "oom-host-unnamed": Rule(
        "",
        "",
        N_("Host out of memory: the kernel killed a process of this run."),
        N_("Use fewer data workers or a smaller model, or ask for more memory; then resume."),
    ),
    "oom-gpu-of-rank": Rule("", "", N_("GPU {gpu} is out of memory."), FULL_GPU),
    "signal-11": Rule(
        "",
        "",
        N_("It crashed in native code (segmentation fault)."),
        N_("Run `tunedeck doctor`: driver and libraries may not fit together."),
    ),
    "nccl-behind": Rule(
        "",
        "",
        N_("The others waited for it until NCCL's time-out: it fell behind or hangs."),
        N_("Look in the log for what it did last; a slow disk and slow data are usual."),
    ),
    "signal": Rule("", "", N_("It was ended from outside by {name}."), N_("It can be resumed.")),
    "status": Rule("", "", N_("It ended with exit status {status}."), N_("Look at the log's end.")),
    "no-step": Rule(
        "",
        "",
        N_("It ended with exit status 0, yet without a single step: nothing was trained."),
        N_(
            "Look at the log's end; if it is empty, see whether 'interpreter' in the settings "
            "is the Python that has XTuner."
        ),
    ),
    "interpreter": Rule(
        "",
        "",
        N_("The training interpreter {python} did not start: {error}"),
        N_("Set 'interpreter' in the settings to the Python that has XTuner."),
    ),
    "stopped": Rule(
        "", "", N_("Stopped after step {step}, with a checkpoint."), N_("It can be resumed.")
    ),
    "stopped-early": Rule("", "", N_("Stopped before its first step."), ""),
    "killed": Rule(
        "",
        "",
        N_("Killed on request: steps after the last checkpoint are lost."),
        N_("It can be resumed."),
    ),
    "rebooted": Rule(
        "", "", N_("The machine was restarted while it ran."), N_("It can be resumed.")
    ),
    "moved-away": Rule(
        "",
        "",
        N_("Its folder was moved away from {place}, where the trainer reaches it no more: {error}"),
        N_("Resume it where it lies now."),
    ),
    "folder-gone": Rule("", "", N_("Its folder was deleted while it ran."), ""),
    "supervisor-gone": Rule(
        "", "", N_("The process that watched it is gone."), N_("It can be resumed.")
    ),
    "supervisor-gone-trainer-runs": Rule(
        "",
        "",
        N_("The process that watched it is gone; the training itself goes on (process {pid})."),
        N_("Let it end, or stop it: it saves a checkpoint first."),
    ),
    "unqueued": Rule(
        "", "", N_("It was taken out of the queue."), N_("`tunedeck resume {run}` puts it back.")
    ),
    "waiting-rebooted": Rule(
        "",
        "",
        N_("It waits ({wait}), but nothing watches it since the machine was restarted."),
        N_("Put it back into the queue: `tunedeck resume {run}`."),
    ),
    "waiting-unwatched": Rule(
        "",
        "",
        N_("It waits ({wait}), but the process that watched it is gone."),
        N_("Put it back into the queue: `tunedeck resume {run}`."),
    ),
    "awaited-failed": Rule(
        "",
        "",
        N_("It never started: {awaited}, which it waited for, failed."),
        N_("`tunedeck resume {run} --now` starts it all the same."),
    ),
    "awaited-stopped": Rule(
        "",
        "",
        N_("It never started: {awaited}, which it waited for, was stopped before its end."),
        N_("`tunedeck resume {run} --now` starts it all the same."),
    ),
    "awaited-lost": Rule(
        "",
        "",
        N_("It never started: nobody can say how {awaited} ended, which it waited for."),
        N_("`tunedeck resume {run} --now` starts it all the same."),
    ),
    "awaited-gone": Rule(
        "",
        "",
        N_("It never started: {awaited}, which it waited for, is not there any more."),
        N_("`tunedeck resume {run} --now` starts it all the same."),
    ),
    "never-started": Rule("", "", N_("It was never started."), N_("Start it again.")),
    "no-end": Rule("", "", N_("It ended before its last step; nothing here says why."), ""),
}
