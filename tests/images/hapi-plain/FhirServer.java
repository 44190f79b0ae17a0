import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.annotation.RequiredParam;
import ca.uhn.fhir.rest.annotation.Search;
import ca.uhn.fhir.rest.param.StringParam;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.provider.HashMapResourceProvider;
import java.util.List;
import org.apache.catalina.Context;
import org.apache.catalina.LifecycleException;
import org.apache.catalina.startup.Tomcat;
import org.hl7.fhir.r4.model.Observation;
import org.hl7.fhir.r4.model.Patient;

/** HAPI's plain server on embedded Tomcat: patients and observations in memory, below /fhir on port 8080. */
public class FhirServer {
  public static class Patients extends HashMapResourceProvider<Patient> {
    public Patients(FhirContext context) {
      super(context, Patient.class);
    }

    @Search
    public List<Patient> byFamily(@RequiredParam(name = Patient.SP_FAMILY) StringParam family) {
      String wanted = family.getValue().toLowerCase();
      return getStoredResources().stream()
          .filter(patient -> patient.getName().stream()
              .anyMatch(name -> name.hasFamily() && name.getFamily().toLowerCase().startsWith(wanted)))
          .toList();
    }
  }

  public static void main(String[] arguments) throws LifecycleException {
    FhirContext context = FhirContext.forR4();
    RestfulServer server = new RestfulServer(context);
    server.registerProviders(new Patients(context), new HashMapResourceProvider<>(context, Observation.class));

    Tomcat tomcat = new Tomcat();
    tomcat.setBaseDir(System.getProperty("java.io.tmpdir") + "/tomcat");
    tomcat.setPort(8080);
    tomcat.getConnector();
    Context root = tomcat.addContext("", null);
    Tomcat.addServlet(root, "fhir", server);
    root.addServletMappingDecoded("/fhir/*", "fhir");
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      try {
        tomcat.stop();
      } catch (LifecycleException e) {
        System.err.println("stop: " + e);
      }
    }));
    tomcat.start();
    System.out.println("FHIR server ready on port 8080, base /fhir");
    tomcat.getServer().await();
  }
}
