import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.annotation.RequiredParam;
import ca.uhn.fhir.rest.annotation.Search;
import ca.uhn.fhir.rest.param.StringParam;
import ca.uhn.fhir.rest.server.FifoMemoryPagingProvider;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.provider.HashMapResourceProvider;
import java.util.List;
import org.apache.catalina.Context;
import org.apache.catalina.LifecycleException;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;
import org.apache.coyote.http2.Http2Protocol;
import org.apache.tomcat.util.net.SSLHostConfig;
import org.apache.tomcat.util.net.SSLHostConfigCertificate;
import org.hl7.fhir.r4.model.Observation;
import org.hl7.fhir.r4.model.Patient;

/**
 * HAPI's plain server on embedded Tomcat: patients and observations in memory, below /fhir on port 8080. The variable
 * KEYSTORE, a PKCS 12 file with the password "changeit", adds TLS with HTTP/2 on port 8443.
 */
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

  private static Connector secure(String file) {
    SSLHostConfig host = new SSLHostConfig();
    SSLHostConfigCertificate certificate =
        new SSLHostConfigCertificate(host, SSLHostConfigCertificate.Type.UNDEFINED);
    certificate.setCertificateKeystoreFile(file);
    certificate.setCertificateKeystorePassword("changeit");
    host.addCertificate(certificate);
    Connector connector = new Connector();
    connector.setPort(8443);
    connector.setSecure(true);
    connector.setScheme("https");
    connector.setProperty("SSLEnabled", "true");
    connector.addSslHostConfig(host);
    connector.addUpgradeProtocol(new Http2Protocol());
    return connector;
  }

  public static void main(String[] arguments) throws LifecycleException {
    FhirContext context = FhirContext.forR4();
    RestfulServer server = new RestfulServer(context);
    server.registerProviders(new Patients(context), new HashMapResourceProvider<>(context, Observation.class));
    server.setPagingProvider(new FifoMemoryPagingProvider(100));

    Tomcat tomcat = new Tomcat();
    tomcat.setBaseDir(System.getProperty("java.io.tmpdir") + "/tomcat");
    tomcat.setPort(8080);
    tomcat.getConnector();
    if (System.getenv("KEYSTORE") != null) {
      tomcat.getService().addConnector(secure(System.getenv("KEYSTORE")));
    }
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
