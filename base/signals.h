// Requests to stop a run. A handler only notes the signal; work that can end early asks for it.
#pragma once

#include "base/status.h"

// From here on these are requests: SIGTERM, SIGINT, SIGHUP unless it is ignored (nohup), and what
// queues send before the end: SIGUSR1, SIGUSR2, SIGXCPU. A second SIGTERM or SIGINT ends the
// process at once.
void signals_catch(void);
int signals_pending(void);  // 0, or the signal of the latest request
const char *signals_reason(int signal);
// E_STOPPED when there is a request: "stopped by SIGTERM while ...". For phases without steps; not
// collective.
Status signals_check(const char *during) CHECKED;
