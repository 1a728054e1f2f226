// SPDX-License-Identifier: MIT
#include "common/parallel.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <list>
#include <mutex>
#include <thread>

#include "common/torch_team.h"

namespace lmc {
namespace {

struct Job {
  TaskFunction function;
  void* context;
  int64_t tasks;
  int threads;
  std::atomic<int64_t> next{0};
  std::atomic<int> joined{1};  // threads that ever took part, the caller being the first
  int running = 0;             // pool threads at work in it now; guarded by Pool::mutex
  std::mutex error_mutex;
  std::exception_ptr error;  // guarded by error_mutex

  void run_tasks(int worker) {
    for (;;) {
      const int64_t task = next.fetch_add(1, std::memory_order_relaxed);
      if (task >= tasks) return;
      try {
        function(context, task, worker);
      } catch (...) {
        next.store(tasks, std::memory_order_relaxed);
        std::lock_guard<std::mutex> lock(error_mutex);
        if (!error) error = std::current_exception();
      }
    }
  }
};

// For work during which the caller must wake up now and then, and for all work where torch has no
// threads.
struct Pool {
  std::mutex mutex;
  std::condition_variable work_arrived;
  std::condition_variable worker_left;
  std::list<Job*> open;
  int threads = 0;

  Job* joinable() {
    for (Job* job : open)
      if (job->joined < job->threads) return job;
    return nullptr;
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      Job* job = nullptr;
      work_arrived.wait(lock, [&] { return (job = joinable()) != nullptr; });
      const int worker = job->joined++;
      ++job->running;
      lock.unlock();
      job->run_tasks(worker);
      lock.lock();
      --job->running;
      worker_left.notify_all();
    }
  }

  void run(Job& job, const WhileWaiting* while_waiting) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      open.push_back(&job);
      while (threads < job.threads - 1) {
        // The threads live as long as the process: the pool is never destroyed. When the system
        // gives no more of them, those there are (the caller at least) do the work.
        try {
          std::thread(&Pool::serve, this).detach();
        } catch (...) {  // nothing may leave here while `open` points to the job
          break;
        }
        ++threads;
      }
    }
    work_arrived.notify_all();
    job.run_tasks(0);
    std::unique_lock<std::mutex> lock(mutex);
    open.remove(&job);
    const auto finished = [&] { return job.running == 0; };
    if (while_waiting == nullptr) return worker_left.wait(lock, finished);
    while (!worker_left.wait_for(lock, std::chrono::milliseconds(while_waiting->milliseconds),
                                 finished)) {
      lock.unlock();
      while_waiting->function(while_waiting->context);
      lock.lock();
    }
  }
};

Pool* pool = nullptr;
std::once_flag pool_created;

// A forked child has none of its parent's threads, and its copy of the mutex may be locked by one.
void replace_pool_after_fork() { pool = new Pool; }

bool run_on_team(Job& job, int threads) {
  struct Team {
    Job& job;
    std::thread::id caller;
  } team{job, std::this_thread::get_id()};
  const auto take_part = [](void* context) {
    const Team& t = *static_cast<Team*>(context);
    const int worker = std::this_thread::get_id() == t.caller ? 0 : t.job.joined++;
    if (worker < t.job.threads) t.job.run_tasks(worker);
  };
  return run_on_torch_team(take_part, &team, job.tasks, threads);
}

}  // namespace

void parallel_for(int64_t tasks, int threads, TaskFunction function, void* context,
                  const WhileWaiting* while_waiting) {
  if (tasks <= 1 || threads <= 1) {
    for (int64_t task = 0; task < tasks; ++task) function(context, task, 0);
    return;
  }
  Job job;
  job.function = function;
  job.context = context;
  job.tasks = tasks;
  job.threads = static_cast<int>(std::min<int64_t>(threads, tasks));
  if (while_waiting != nullptr || !run_on_team(job, threads)) {
    std::call_once(pool_created, [] {
      pool = new Pool;
      pthread_atfork(nullptr, nullptr, replace_pool_after_fork);
    });
    pool->run(job, while_waiting);
  }
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace lmc
