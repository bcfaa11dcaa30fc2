// Time that only goes forward.
#pragma once

double clock_s(void);  // seconds since some moment
